/// Finds processes by their command lines, for those whose identity was never written down.
public enum ProcessTable {
    /// Every running process whose arguments `matches` accepts.
    public static func all(where matches: ([String]) -> Bool) -> [ProcessIdentity] {
        ((try? KernelFile.names(in: "/proc")) ?? []).compactMap { name in
            guard let pid = Int32(name), let process = ProcessIdentity.of(pid), let arguments = arguments(of: pid), matches(arguments),
                process.isAlive
            else { return nil }
            return process
        }
    }

    /// The command line of a process; at most the first 64 KiB. Empty for kernel threads, nil without the process.
    public static func arguments(of pid: Int32) -> [String]? {
        guard let bytes = KernelFile.bytes("/proc/\(pid)/cmdline") else { return nil }
        return bytes.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    }
}
