import Glibc
import Synchronization

/// Whom the kernel has killed for lack of memory, by its log: a cgroup counts its victims and does not name them.
///
/// The kernel writes the message while it holds the victim, which cannot end before (mm/oom_kill.c, __oom_kill_process).
final class MemoryVictims: Sendable {
    /// A place in the kernel's log.
    struct Position: Sendable, Equatable { fileprivate var sequence: UInt64 = 0 }

    private struct State {
        let descriptor: Int32
        var next: UInt64 = 0
        /// Where each was last killed.
        var victims: [pid_t: UInt64] = [:]
    }

    private static let mostVictims = 4096
    /// Records that one look takes: a privileged container may write without end.
    private static let mostRecords = 16384

    private let state: Mutex<State>

    /// - Parameter path: of the log, one record a read (Documentation/ABI/testing/dev-kmsg).
    convenience init(path: String = "/dev/kmsg") {
        let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        if descriptor >= 0 { lseek(descriptor, 0, Int32(SEEK_END)) }
        self.init(descriptor: descriptor)
    }

    /// - Parameter descriptor: taken over; -1: nobody knows.
    init(descriptor: Int32) {
        if descriptor >= 0 { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }
        state = Mutex(State(descriptor: descriptor))
    }

    deinit {
        let descriptor = state.withLock { $0.descriptor }
        if descriptor >= 0 { close(descriptor) }
    }

    /// Behind all that has been written.
    func position() -> Position {
        state.withLock { state in
            Self.read(&state)
            return Position(sequence: state.next)
        }
    }

    /// Whether a process has been killed behind `position`; nil when the log cannot be read.
    func contain(_ pid: pid_t, since position: Position) -> Bool? {
        state.withLock { state in
            guard state.descriptor >= 0 else { return nil }
            Self.read(&state)
            return state.victims[pid].map { $0 >= position.sequence } ?? false
        }
    }

    private static func read(_ state: inout State) {
        guard state.descriptor >= 0 else { return }
        // CONSOLE_EXT_LOG_MAX.
        var buffer = [UInt8](repeating: 0, count: 8192)
        for _ in 0..<mostRecords {
            let count = Glibc.read(state.descriptor, &buffer, buffer.count)
            if count < 0 {
                // EPIPE: records were overwritten; the oldest that is left comes next.
                if errno == EPIPE || errno == EINTR { continue }
                return
            }
            guard count > 0, let record = Record(buffer[..<count]) else { continue }
            state.next = record.sequence + 1
            guard let victim = record.victim else { continue }
            if state.victims.count >= mostVictims, let oldest = state.victims.min(by: { $0.value < $1.value })?.key {
                state.victims[oldest] = nil
            }
            state.victims[victim] = record.sequence
        }
    }

    /// "6,339,5140900,-;Out of memory: Killed process 7 (sh) ...": facility and level, sequence number, time, flags, text.
    struct Record: Equatable {
        var sequence: UInt64
        /// Whom it says the kernel has killed.
        var victim: pid_t?

        private static let beginnings = [
            "Memory cgroup out of memory: Killed process ", "Out of memory: Killed process ",
            "Out of memory (oom_kill_allocating_task): Killed process ",
        ]

        init?(_ bytes: some Collection<UInt8>) {
            let parts = String(decoding: bytes, as: UTF8.self).split(separator: ";", maxSplits: 1, omittingEmptySubsequences: false)
            let fields = parts[0].split(separator: ",")
            guard parts.count == 2, fields.count >= 3, let priority = UInt64(fields[0]), let sequence = UInt64(fields[1])
            else { return nil }
            self.sequence = sequence
            // Facility 0 is the kernel's; what programs write has another.
            guard priority < 8, let beginning = Self.beginnings.first(where: { parts[1].hasPrefix($0) }) else { return }
            victim = pid_t(parts[1].dropFirst(beginning.count).prefix { $0.isNumber })
        }
    }
}
