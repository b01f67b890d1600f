import Foundation

/// The most memory this process had resident since the last reset: VmHWM of proc(5).
enum PeakMemory {
    struct Failure: Error {}

    /// Forgets the peak and returns what is resident now, bytes.
    static func reset() throws -> Int {
        // 5 resets the peak: proc_pid_clear_refs(5).
        try Data("5".utf8).write(to: URL(fileURLWithPath: "/proc/self/clear_refs"))
        return try bytes()
    }

    static func bytes() throws -> Int {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        guard let match = status.firstMatch(of: /VmHWM:\s*(\d+) kB/), let kilobytes = Int(match.1) else { throw Failure() }
        return kilobytes << 10
    }
}
