import CLinux
import Glibc

/// Keeps the daemon's memory near what it uses: it runs for months beside tenants who pay for the node's.
public enum MemoryLimits {
    private static let interval = Duration.seconds(10)

    /// Two heaps instead of eight for each CPU (mallopt(3)), and what is free in them goes back to the kernel now and then; after work, the
    /// pages of the code that it needed do as well.
    public static func apply() {
        clinux_limit_heaps(2, 256 << 10)
        Task.detached(priority: .background) {
            var code = CodeInUse()
            while true {
                try await Task.sleep(for: interval)
                clinux_trim_heaps()
                if code.isMoreThanNeeded(processorTime: processorTime(), mapped: mapped()) { clinux_forget_code() }
            }
        }
    }

    /// Unmaps the code that only the start needed: half of what the program and its 120 libraries take.
    public static func forgetStart() {
        clinux_forget_code()
    }

    /// What the process has used of the processor since its start.
    private static func processorTime() -> Duration {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    /// Bytes of files in the process's memory (proc(5), statm's third number).
    private static func mapped() -> Int {
        let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return 0 }
        defer { close(file) }
        let text = [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in count = max(read(file, buffer.baseAddress, buffer.count), 0)
        }
        let numbers = text.split(separator: UInt8(ascii: " ")).map { Int(String(decoding: $0, as: UTF8.self)) ?? 0 }
        return numbers.count > 2 ? numbers[2] * Int(getpagesize()) : 0
    }
}

/// Tells, from one look to the next, when there is more code in memory than is in use: work has ended, and left what it alone had needed.
/// During work nothing is gained by forgetting it, nor as long as no more has come than is needed all the time.
struct CodeInUse {
    /// Of the processor between two looks: more than a daemon uses whose kubelet lists a hundred pods every second.
    static let work = Duration.milliseconds(250)
    /// Bytes that more code has to take than what came back after the last time.
    static let slack = 2 << 20

    private var processorTime = Duration.zero
    /// What came back since all was forgotten, by the first look without work after that; nil until then.
    private var needed: Int? = 0

    mutating func isMoreThanNeeded(processorTime now: Duration, mapped: Int) -> Bool {
        let works = now - processorTime >= Self.work
        processorTime = now
        guard !works else {
            // What comes back now is more than what is needed all the time.
            if needed == nil { needed = 0 }
            return false
        }
        guard let known = needed else {
            needed = mapped
            return false
        }
        guard mapped > known + Self.slack else { return false }
        needed = nil
        return true
    }
}
