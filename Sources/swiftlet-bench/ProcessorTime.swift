import Foundation
import Glibc

/// What processes have used of the processors so far.
struct ProcessorTime {
    /// Seconds by the program's name.
    private var seconds: [String: Double] = [:]

    /// Of everything that runs below the directories now.
    static func now(below directories: [String]) -> ProcessorTime {
        var times = ProcessorTime()
        for entry in ProcessTree.now().processes(of: directories) {
            guard let seconds = seconds(of: entry.identity.pid) else { continue }
            times.seconds[entry.program, default: 0] += seconds
        }
        return times
    }

    /// Of one process; nil when it is gone.
    static func seconds(of pid: Int32) -> Double? {
        guard let line = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let ticks = ticks(inStat: line) else {
            return nil
        }
        return Double(ticks) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Fields 14 and 15 of /proc/PID/stat: time in user and in kernel mode of all threads; nil for text of another form (proc(5)).
    static func ticks(inStat line: String) -> UInt64? {
        // The program's name, field 2, may hold blanks and brackets.
        guard let end = line.lastIndex(of: ")") else { return nil }
        let fields = line[line.index(after: end)...].split(separator: " ")
        guard fields.count > 12, let user = UInt64(fields[11]), let system = UInt64(fields[12]) else { return nil }
        return user + system
    }

    /// What was used since an earlier moment, by program. A process that has ended since counts nothing.
    func since(_ earlier: ProcessorTime) -> [String: Double] {
        seconds.reduce(into: [:]) { $0[$1.key] = max(0, $1.value - earlier.seconds[$1.key, default: 0]) }
    }
}
