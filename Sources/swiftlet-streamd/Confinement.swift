import CLinux
import CSeccomp
import Errors
import Glibc
import SystemCalls

/// What the process gives up before it looks at the first byte of a guest or a client: all capabilities, other programs, other processes,
/// namespaces, and what of the kernel it has no use for.
///
/// It stays the superuser's: the logs are in the kubelet's directories, which are root's. Call it before any thread exists.
enum Confinement {
    /// Whose use no byte of a session or a log can be.
    private static let refused = [
        // Other programs and other processes.
        "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
        "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
        // Namespaces, mounts and users.
        "unshare", "setns", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
        "mount_setattr", "pivot_root", "chroot", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid",
        "setfsuid", "setfsgid", "setgroups", "capset", "mknod", "mknodat", "open_by_handle_at", "name_to_handle_at",
        // Parts of the kernel.
        "bpf", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "keyctl", "add_key",
        "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon",
        "swapoff", "acct", "quotactl", "quotactl_fd", "iopl", "ioperm", "modify_ldt", "personality", "syslog", "settimeofday",
        "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "lookup_dcookie", "vhangup",
        "fanotify_init", "memfd_secret", "migrate_pages", "move_pages", "mbind", "set_mempolicy",
    ]
    /// Clients, guests and control.
    private static let socketFamilies: Set = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_VSOCK]
    private static let highestSocketFamily: Int32 = 64

    /// - Throws: the errno of a step that fails; the process is to end then.
    static func apply() throws {
        guard clinux_drop_bounding_set() == 0, clinux_drop_capabilities() == 0 else { throw SwiftletError.system("drop capabilities") }
        guard clinux_prctl(Int32(CLINUX_PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0) == 0 else { throw SwiftletError.system("set no_new_privs") }
        let filter = try SystemCallFilter(others: .allowed)
        for name in refused { try filter.refuse(name) }
        for family in 0..<highestSocketFamily where !socketFamilies.contains(family) {
            try filter.refuse("socket", [.argument(0, is: Int(family))])
        }
        // abort(3) and a crash's signal, of this process alone.
        try filter.refuse("tgkill", [.argument(0, isNot: Int(getpid()))])
        // A thread, not a process. Its flags are behind a pointer in clone3(2), without which the C library uses clone(2).
        try filter.refuse("clone", [.argument(0, hasNone: Int(CLINUX_CLONE_THREAD))])
        try filter.refuse("clone3", errno: ENOSYS)
        for name in ["mmap", "mprotect"] { try filter.refuse(name, [.argument(2, hasAll: Int(PROT_EXEC | PROT_WRITE))]) }
        try filter.load()
    }
}
