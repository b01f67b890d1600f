import CLinux
import Errors
import Glibc
import SystemCalls

/// What the process gives up before it reads the first byte of an image: files, the network, its user, its capabilities, most system
/// calls, and all but a little memory and time.
///
/// The process has one thread.
enum Confinement {
    /// Descriptors: the image, the answer, errors, and the one that libqcow opens.
    private static let files: rlim_t = 4
    /// Bytes of addresses: the program's own with its libraries are 0.3 GiB, an L1 table 32 MiB.
    private static let memory: rlim_t = 1 << 30
    /// Seconds of a CPU.
    private static let time: rlim_t = 60
    /// nobody's, by Debian's base-passwd. No file is its, and the process can neither be traced nor dumped.
    private static let nobody: uid_t = 65534

    private static let allowedCalls = [
        "read", "pread64", "readv", "write", "writev", "lseek", "close", "fstat", "newfstatat", "stat", "fcntl", "munmap", "mremap",
        "madvise", "brk", "futex", "clock_gettime", "gettimeofday", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
        "restart_syscall", "getpid", "gettid", "getrandom", "sched_yield", "exit", "exit_group",
    ]

    /// - Returns: the path of descriptor 0, for libqcow, which takes no descriptors.
    /// - Throws: the step that fails; the process is to end then.
    static func apply() throws -> String {
        let path = try leaveFiles()
        try dropPrivileges()
        for (resource, limit) in [
            (RLIMIT_NOFILE, files), (RLIMIT_AS, memory), (RLIMIT_CPU, time), (RLIMIT_CORE, 0),
        ] {
            var limits = rlimit(rlim_cur: limit, rlim_max: limit)
            guard setrlimit(__rlimit_resource_t(resource.rawValue), &limits) == 0 else { throw SwiftletError.errno("set a resource limit") }
        }
        try filter().load()
        return path
    }

    /// Makes the directory of the process's own open descriptors the root of all paths: nothing else has one any more.
    private static func leaveFiles() throws -> String {
        guard geteuid() == 0 else { return "/proc/self/fd/0" }
        guard clinux_unshare(Int32(CLINUX_CLONE_NEWNET | CLINUX_CLONE_NEWIPC | CLINUX_CLONE_NEWUTS)) == 0 else {
            throw SwiftletError.errno("unshare namespaces")
        }
        guard chdir("/proc/self/fd") == 0, chroot(".") == 0 else { throw SwiftletError.errno("leave the node's files") }
        return "/0"
    }

    private static func dropPrivileges() throws {
        if geteuid() == 0 {
            guard setgroups(0, nil) == 0, clinux_drop_bounding_set() == 0, setresgid(nobody, nobody, nobody) == 0,
                setresuid(nobody, nobody, nobody) == 0
            else { throw SwiftletError.errno("become nobody") }
        }
        guard clinux_drop_capabilities() == 0 else { throw SwiftletError.errno("drop capabilities") }
        guard clinux_prctl(Int32(CLINUX_PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0) == 0 else { throw SwiftletError.errno("set no_new_privs") }
        guard clinux_prctl(Int32(CLINUX_PR_SET_DUMPABLE), 0, 0, 0, 0) == 0 else { throw SwiftletError.errno("set dumpable") }
    }

    private static func filter() throws -> SystemCallFilter {
        let filter = try SystemCallFilter(others: .refused)
        for name in allowedCalls { try filter.allow(name) }
        // To read, and nothing new.
        try filter.allow("openat", [.argument(2, hasNone: Int(O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))])
        // abort(3), of this process alone.
        try filter.allow("tgkill", [.argument(0, is: Int(getpid()))])
        for name in ["mmap", "mprotect"] { try filter.allow(name, [.argument(2, hasNone: Int(PROT_EXEC))]) }
        return filter
    }
}

extension SwiftletError {
    fileprivate static func errno(_ step: String, _ number: Int32 = Glibc.errno) -> SwiftletError {
        SwiftletError(.internal, "\(step): \(String(cString: strerror(number)))")
    }
}
