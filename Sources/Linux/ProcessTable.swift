import Glibc

/// Finds processes by their command lines, for those whose identity was never written down.
public enum ProcessTable {
    /// Every running process of these users whose arguments `matches` accepts. Anybody may give a process any command line.
    ///
    /// - Parameter range: further users.
    public static func all(
        of users: Set<uid_t>, and range: UserRange? = nil, where matches: ([String]) -> Bool
    ) -> [ProcessIdentity] {
        ((try? KernelFile.names(in: "/proc")) ?? []).compactMap { name in
            guard let pid = Int32(name), let process = ProcessIdentity.of(pid), let arguments = arguments(of: pid), matches(arguments),
                let user = realUser(of: pid), users.contains(user) || range?.ids.contains(user) == true, process.isAlive
            else { return nil }
            return process
        }
    }

    /// Every running process of these users, whatever its command line.
    public static func running(as ids: ClosedRange<uid_t>) -> [(process: ProcessIdentity, user: uid_t)] {
        ((try? KernelFile.names(in: "/proc")) ?? []).compactMap { name in
            guard let pid = Int32(name), let process = ProcessIdentity.of(pid), let user = realUser(of: pid), ids.contains(user),
                process.isAlive
            else { return nil }
            return (process, user)
        }
    }

    /// Root, this process's own user, and those with these names, as far as there are any.
    public static func users(_ names: String...) -> Set<uid_t> {
        var users: Set<uid_t> = [0, geteuid()]
        for name in names {
            var (entry, found) = (passwd(), UnsafeMutablePointer<passwd>?.none)
            var buffer = [CChar](repeating: 0, count: 4096)
            if getpwnam_r(name, &entry, &buffer, buffer.count, &found) == 0, found != nil { users.insert(entry.pw_uid) }
        }
        return users
    }

    /// The owner of /proc/PID is root for a process that cannot be dumped; its status says who it is.
    private static func realUser(of pid: Int32) -> uid_t? {
        guard let status = KernelFile.text("/proc/\(pid)/status", limit: 8192),
            let line = status.split(separator: "\n").first(where: { $0.hasPrefix("Uid:") })
        else { return nil }
        return line.split(whereSeparator: { $0 == "\t" || $0 == " " }).dropFirst().first.flatMap { uid_t($0) }
    }

    /// The command line of a process; at most the first 64 KiB. Empty for kernel threads, nil without the process.
    public static func arguments(of pid: Int32) -> [String]? {
        guard let bytes = KernelFile.bytes("/proc/\(pid)/cmdline") else { return nil }
        return bytes.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    }
}
