import Glibc

/// How much the device says on standard error. Each level includes those before it.
public enum DeviceLogLevel: String, Sendable, CaseIterable, Comparable {
    case error
    case info
    case debug

    private var rank: Int {
        switch self {
        case .error: 0
        case .info: 1
        case .debug: 2
        }
    }

    public static func < (a: DeviceLogLevel, b: DeviceLogLevel) -> Bool { a.rank < b.rank }
}

/// One line per entry on a descriptor, each written by a single `write`.
struct DeviceLog {
    var level: DeviceLogLevel
    var prefix: String
    var descriptor: Int32 = STDERR_FILENO

    func error(_ message: @autoclosure () -> String) { write(.error, message) }
    func info(_ message: @autoclosure () -> String) { write(.info, message) }
    func debug(_ message: @autoclosure () -> String) { write(.debug, message) }

    private func write(_ entry: DeviceLogLevel, _ message: () -> String) {
        guard entry <= level else { return }
        var line = "\(prefix): \(entry.rawValue): \(message())\n"
        line.withUTF8 { bytes in _ = Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
    }
}

/// Nanoseconds of the monotonic clock.
func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// What `errno` says now, for messages.
func systemErrorText(_ code: Int32 = errno) -> String {
    String(cString: strerror(code))
}
