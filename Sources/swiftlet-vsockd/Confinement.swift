import CLinux
import Errors
import Glibc
import SystemCalls

/// What the process gives up before it looks at the first byte of a guest: the node's network, System V objects and host name, its
/// user, its capabilities, most system calls.
///
/// The process has one thread, and threads made later would inherit all of it.
struct Confinement {
    /// Files that exist already can be read and written, and shared memory mapped; nothing can be opened, executed or signalled.
    private static let allowedCalls = [
        "read", "readv", "write", "writev", "recvmsg", "recvfrom", "sendmsg", "sendto", "accept4", "connect", "shutdown", "getsockopt",
        "close", "fcntl", "fstat", "newfstatat", "lseek", "unlink", "epoll_wait", "epoll_pwait", "epoll_ctl", "poll", "ppoll", "munmap",
        "mremap", "madvise", "brk", "futex", "clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "rt_sigaction",
        "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "getpid", "gettid", "getrandom", "sched_yield", "exit",
        "exit_group",
    ]

    private let user: (uid: uid_t, gid: gid_t)?

    /// - Parameter user: who to become, as UID:GID or by name; nil stays who it is.
    /// - Throws: `invalidArgument` for a user that does not exist.
    init(user: String?) throws {
        guard let user else {
            self.user = nil
            return
        }
        let ids = user.split(separator: ":", omittingEmptySubsequences: false).map { UInt32($0) }
        if ids.count == 2, let uid = ids[0], let gid = ids[1], uid != .max, gid != .max {
            self.user = (uid, gid)
        } else if let entry = getpwnam(user) {
            self.user = (entry.pointee.pw_uid, entry.pointee.pw_gid)
        } else {
            throw SwiftletError(.invalidArgument, "user \(user) does not exist, and is not UID:GID")
        }
    }

    /// Whom the process will be.
    var uid: uid_t { user?.uid ?? geteuid() }

    /// - Throws: the errno of a step that fails; the process is to end then.
    func apply() throws {
        try dropPrivileges()
        let filter = try Self.filter()
        // Nothing grows on the node's disks. The log is among what cannot be written any more: a broken guest could fill it.
        signal(SIGXFSZ, SIG_IGN)
        for resource in [RLIMIT_FSIZE, RLIMIT_CORE] {
            var none = rlimit(rlim_cur: 0, rlim_max: 0)
            guard setrlimit(__rlimit_resource_t(resource.rawValue), &none) == 0 else { throw SwiftletError.errno("set a resource limit") }
        }
        try filter.load()
    }

    private func dropPrivileges() throws {
        if let user, geteuid() == 0 {
            // Sockets by path stay within reach, those by an abstract name do not. The mounts stay the node's: a copy of them would keep
            // what is mounted now from being unmounted.
            guard clinux_unshare(Int32(CLINUX_CLONE_NEWNET | CLINUX_CLONE_NEWIPC | CLINUX_CLONE_NEWUTS)) == 0 else {
                throw SwiftletError.errno("unshare namespaces")
            }
            guard setgroups(0, nil) == 0, clinux_drop_bounding_set() == 0, setresgid(user.gid, user.gid, user.gid) == 0,
                setresuid(user.uid, user.uid, user.uid) == 0
            else { throw SwiftletError.errno("become user \(user.uid)") }
        }
        guard clinux_drop_capabilities() == 0 else { throw SwiftletError.errno("drop capabilities") }
        guard clinux_prctl(Int32(CLINUX_PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0) == 0 else { throw SwiftletError.errno("set no_new_privs") }
        // Neither a core file nor another process of this user shows what is in its memory.
        guard clinux_prctl(Int32(CLINUX_PR_SET_DUMPABLE), 0, 0, 0, 0) == 0 else { throw SwiftletError.errno("set dumpable") }
    }

    // MARK: System calls

    private static func filter() throws -> SystemCallFilter {
        let filter = try SystemCallFilter(others: .refused)
        for name in allowedCalls { try filter.allow(name) }
        try filter.allow("socket", [.argument(0, is: Int(AF_UNIX))])
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
