import Errors
import Logging
import Synchronization

/// Whether a collector takes what it is given: said in the log when that changes, not at each attempt.
final class CollectorHealth: Sendable {
    private struct State {
        var failure: String?
        var sentLines = 0
        var hasRefused = false
        var overflowed: ContinuousClock.Instant?
    }

    private static let overflowInterval = Duration.seconds(60)
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameter logger: whose metadata name the collector.
    init(logger: Logger) { self.logger = logger }

    var failure: String? { state.withLock { $0.failure } }
    var sentLines: Int { state.withLock { $0.sentLines } }

    func failed(_ reason: String) {
        let isNew = state.withLock { state in
            defer { state.failure = reason }
            return state.failure == nil
        }
        if isNew { logger.warning("a collector takes no logs", metadata: ["error": "\(printable(reason, limit: 400))"]) }
    }

    func sent(_ lines: Int) {
        let wasFailing = state.withLock { state in
            state.sentLines += lines
            defer { state.failure = nil }
            return state.failure != nil
        }
        if wasFailing { logger.notice("the collector takes logs again") }
    }

    /// Of lines that it took otherwise.
    func refused(_ lines: Int, _ reason: String) {
        let isNew = state.withLock { state in
            defer { state.hasRefused = true }
            return !state.hasRefused
        }
        guard isNew else { return }
        logger.warning(
            "the collector refuses lines; it is not said again",
            metadata: ["lines": "\(lines)", "error": "\(printable(reason, limit: 400))"])
    }

    /// Lines begin to be dropped. A collector that is a little too slow has that happen often.
    func overflowed() {
        let isNew = state.withLock { state in
            if let last = state.overflowed, .now - last < Self.overflowInterval { return false }
            state.overflowed = .now
            return true
        }
        if isNew { logger.warning("lines of logs are dropped: their collector is too slow, or a container too fast") }
    }
}
