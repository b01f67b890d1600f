import Synchronization

/// Something that happens once, and is waited for.
final class Event: Sendable {
    private struct State {
        var hasHappened = false
        var waiting: [AsyncStream<Never>.Continuation] = []
    }

    private let state = Mutex(State())

    /// Idempotent.
    func happen() {
        let waiting = state.withLock { state in
            state.hasHappened = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.finish() }
    }

    /// - Throws: `CancellationError`.
    func wait() async throws {
        let (stream, continuation) = AsyncStream.makeStream(of: Never.self)
        let hasHappened = state.withLock { state in
            if !state.hasHappened { state.waiting.append(continuation) }
            return state.hasHappened
        }
        guard !hasHappened else { return }
        var iterator = stream.makeAsyncIterator()
        _ = await iterator.next()
        if !state.withLock({ $0.hasHappened }) { throw CancellationError() }
    }
}
