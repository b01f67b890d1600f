import Errors
import Logging
import Synchronization

/// Whether a collector takes what it is given: said in the log when that changes, not at each attempt, and once a minute at most of one that
/// changes often.
final class CollectorHealth: Sendable {
    private struct State {
        var failure: String?
        /// Of the present failure.
        var isSaid = false
        var lastSaid: ContinuousClock.Instant?
        var sentLines = 0
        var hasRefused = false
        var overflowed: ContinuousClock.Instant?
    }

    private static let interval = Duration.seconds(60)
    private let logger: Logger
    private let now: @Sendable () -> ContinuousClock.Instant
    private let state = Mutex(State())

    /// - Parameter logger: whose metadata name the collector.
    init(logger: Logger, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) { (self.logger, self.now) = (logger, now) }

    var failure: String? { state.withLock { $0.failure } }
    var sentLines: Int { state.withLock { $0.sentLines } }

    func failed(_ reason: String) {
        let now = now()
        let isToSay = state.withLock { state in
            state.failure = reason
            // A failure that begins too early to be said is said later, if it lasts.
            guard !state.isSaid, Self.isOver(state.lastSaid, now) else { return false }
            (state.isSaid, state.lastSaid) = (true, now)
            return true
        }
        if isToSay { logger.warning("a collector takes no logs", metadata: ["error": "\(printable(reason, limit: 400))"]) }
    }

    func sent(_ lines: Int) {
        let wasSaid = state.withLock { state in
            state.sentLines += lines
            defer { (state.failure, state.isSaid) = (nil, false) }
            return state.isSaid
        }
        if wasSaid { logger.notice("the collector takes logs again") }
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
        let now = now()
        let isNew = state.withLock { state in
            guard Self.isOver(state.overflowed, now) else { return false }
            state.overflowed = now
            return true
        }
        if isNew { logger.warning("lines of logs are dropped: their collector is too slow, or a container too fast") }
    }

    private static func isOver(_ last: ContinuousClock.Instant?, _ now: ContinuousClock.Instant) -> Bool {
        last.map { now - $0 >= interval } ?? true
    }
}
