import Concurrency
import Glibc
import Linux
import Runtime

/// What one of a pod's processes costs the node.
public struct HostCost: Sendable, Codable, Equatable {
    /// What the process is for: the ledger's kind, "machine" or "vsockDevice".
    public var kind: String
    public var pid: Int32
    /// CPU time since its start, user and system, in nanoseconds.
    public var cpuNanoseconds: UInt64
    /// Resident memory, shared pages counted whole.
    public var rssBytes: UInt64
    /// Shared pages counted by their share; nil where the kernel does not report them.
    public var pssBytes: UInt64?

    static func measure(_ entries: [LedgerEntry]) async -> [HostCost] {
        let processes = entries.compactMap { entry in entry.process.map { (entry.kind.rawValue, $0) } }
        // Adding up the pages of a large process takes milliseconds.
        return (try? await OwnThread.run { processes.compactMap { measure($0, $1) } }) ?? []
    }

    private static func measure(_ kind: String, _ process: ProcessIdentity) -> HostCost? {
        guard process.isAlive, let stat = KernelFile.text("/proc/\(process.pid)/stat"), let (ticks, pages) = parse(stat) else { return nil }
        let pss = KernelFile.text("/proc/\(process.pid)/smaps_rollup").flatMap(parsePSS)
        // What was read between the two looks was this process's.
        guard process.isAlive else { return nil }
        return HostCost(
            kind: kind, pid: process.pid, cpuNanoseconds: ticks * (1_000_000_000 / UInt64(max(sysconf(Int32(_SC_CLK_TCK)), 1))),
            rssBytes: pages * UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0)), pssBytes: pss)
    }

    /// utime and stime, fields 14 and 15, and rss, field 24, of /proc/PID/stat (proc(5)).
    static func parse(_ line: String) -> (ticks: UInt64, pages: UInt64)? {
        // The name, field 2, may hold anything.
        guard let nameEnd = line.lastIndex(of: ")") else { return nil }
        let fields = line[line.index(after: nameEnd)...].split(separator: " ")
        guard fields.count > 21, let user = UInt64(fields[11]), let system = UInt64(fields[12]), let pages = UInt64(fields[21])
        else { return nil }
        return (user + system, pages)
    }

    /// "Pss:    123456 kB".
    static func parsePSS(_ rollup: String) -> UInt64? {
        rollup.split(separator: "\n").first { $0.hasPrefix("Pss:") }?.split(separator: " ").dropFirst().first
            .flatMap { UInt64($0) }.map { $0 * 1024 }
    }
}
