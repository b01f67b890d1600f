/// The capabilities of a container that asks for none: the set that Docker and containerd give. The host asks the guest for it, and
/// the guest's image holds the default seccomp profile compiled for it.
public enum DefaultCapabilities {
    public static let names = [
        "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
    ]
}
