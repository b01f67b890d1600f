import CLinux
import CSeccomp
import Errors
import Glibc

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
        defer { seccomp_release(filter) }
        // Nothing grows on the node's disks. The log is among what cannot be written any more: a broken guest could fill it.
        signal(SIGXFSZ, SIG_IGN)
        for resource in [RLIMIT_FSIZE, RLIMIT_CORE] {
            var none = rlimit(rlim_cur: 0, rlim_max: 0)
            guard setrlimit(__rlimit_resource_t(resource.rawValue), &none) == 0 else { throw SwiftletError.errno("set a resource limit") }
        }
        let result = seccomp_load(filter)
        guard result == 0 else { throw SwiftletError.errno("load the seccomp filter", -result) }
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

    private static func filter() throws -> scmp_filter_ctx {
        guard let filter = seccomp_init(cseccomp_errno(UInt16(EPERM))) else {
            throw SwiftletError(.resourceExhausted, "make a seccomp filter: out of memory")
        }
        do {
            // Every thread, should there be more than one.
            try check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1), "TSYNC")
            for name in allowedCalls { try allow(name, [], in: filter) }
            let unix = scmp_arg_cmp(arg: 0, op: SCMP_CMP_EQ, datum_a: scmp_datum_t(AF_UNIX), datum_b: 0)
            try allow("socket", [unix], in: filter)
            // abort(3), of this process alone.
            let itself = scmp_arg_cmp(arg: 0, op: SCMP_CMP_EQ, datum_a: scmp_datum_t(getpid()), datum_b: 0)
            try allow("tgkill", [itself], in: filter)
            let notExecutable = scmp_arg_cmp(arg: 2, op: SCMP_CMP_MASKED_EQ, datum_a: scmp_datum_t(PROT_EXEC), datum_b: 0)
            for name in ["mmap", "mprotect"] { try allow(name, [notExecutable], in: filter) }
            return filter
        } catch {
            seccomp_release(filter)
            throw error
        }
    }

    private static func allow(_ name: String, _ comparisons: [scmp_arg_cmp], in filter: scmp_filter_ctx) throws {
        let number = seccomp_syscall_resolve_name(name)
        // Not every machine has every call.
        guard number >= 0 else { return }
        let result = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, UInt32(comparisons.count), comparisons)
        try check(result, name)
    }

    private static func check(_ result: Int32, _ what: String) throws {
        guard result == 0 else { throw SwiftletError.errno("seccomp filter: \(what)", -result) }
    }
}

extension SwiftletError {
    fileprivate static func errno(_ step: String, _ number: Int32 = Glibc.errno) -> SwiftletError {
        SwiftletError(.internal, "\(step): \(String(cString: strerror(number)))")
    }
}
