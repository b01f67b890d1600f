import Linux

/// capabilities(7) by name.
public enum Capability {
    /// In the kernel's numbering, up to Linux 6.1.
    package static let all = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
        "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
        "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
        "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
    ]
    private static let everything = "CAP_ALL"

    /// Whether `name`, with or without the prefix, is "ALL" or a capability of the guest's kernel.
    public static func exists(_ name: String) -> Bool {
        let name = qualified(name)
        return name == everything || all.contains(name)
    }

    /// Full names, "ALL" as all of them.
    package static func qualified(_ names: [String]) -> [String] {
        let names = names.map(qualified)
        return names.contains(everything) ? all : names
    }

    private static func qualified(_ name: String) -> String {
        let upper = name.uppercased()
        return upper.hasPrefix("CAP_") ? upper : "CAP_" + upper
    }

    /// What a container has. First "ALL" counts, an addition before a removal; then each addition, then each removal by name, so
    /// that what is removed by its own name stays removed.
    package static func held(_ request: ContainerSpec.Capabilities, privileged: Bool) -> [String] {
        let added = (request.add + request.ambient).map(qualified)
        let dropped = request.drop.map(qualified)
        var held = Set(privileged || added.contains(everything) ? all : DefaultCapabilities.names)
        if !privileged, dropped.contains(everything) { held = [] }
        held.formUnion(added)
        held.subtract(privileged ? [] : dropped)
        return all.filter(held.contains)
    }
}
