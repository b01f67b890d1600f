import Synchronization

/// What a call on a ``BlockingPool`` can ask of those who wait for it.
public final class BlockingCall: Sendable {
    private struct State {
        var isAnswered = false
        var isCancelled = false
    }

    private let state = Mutex(State())

    /// Whether the caller has got its answer, which is that the deadline passed: nobody uses what the call does from now on.
    public var isAbandoned: Bool { state.withLock { $0.isAnswered } }

    /// Whether the caller was cancelled or its deadline passed: a call that can stop at this point should.
    public var isCancelled: Bool { state.withLock { $0.isCancelled || $0.isAnswered } }

    func cancel() { state.withLock { $0.isCancelled = true } }

    /// Whether this is the first answer; later ones are dropped.
    func answer() -> Bool {
        state.withLock { state in
            defer { state.isAnswered = true }
            return !state.isAnswered
        }
    }
}

/// What a thread of a ``BlockingPool`` runs.
protocol PoolJob: AnyObject, Sendable {
    /// - Returns: false when the pool has written off the thread meanwhile.
    func perform() -> Bool
    /// - Returns: whether the caller had no answer yet.
    func abandon(_ error: any Error) -> Bool
    /// Notes that the call hangs, and costs its thread, unless it has just ended.
    func markHung() -> Bool
}

final class PlainJob: PoolJob {
    private let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    func perform() -> Bool {
        body()
        return true
    }

    func abandon(_ error: any Error) -> Bool { false }
    func markHung() -> Bool { false }
}

final class CallJob<Value: Sendable>: PoolJob {
    private struct State {
        var hasEnded = false
        var isHung = false
        var onEnd: (@Sendable () -> Void)?
    }

    private let call: BlockingCall
    private let continuation: CheckedContinuation<Value, any Error>
    private let discard: @Sendable (Value) -> Void
    private let body: @Sendable (BlockingCall) throws -> Value
    private let state = Mutex(State())

    init(
        call: BlockingCall, continuation: CheckedContinuation<Value, any Error>, discard: @escaping @Sendable (Value) -> Void,
        body: @escaping @Sendable (BlockingCall) throws -> Value
    ) {
        self.call = call
        self.continuation = continuation
        self.discard = discard
        self.body = body
    }

    func perform() -> Bool {
        let result = call.isAbandoned ? nil : Result { try body(call) }
        let (isHung, onEnd) = state.withLock { state in
            state.hasEnded = true
            return (state.isHung, state.onEnd)
        }
        onEnd?()
        if let result {
            if call.answer() {
                continuation.resume(with: result)
            } else if case .success(let value) = result {
                discard(value)
            }
        }
        return !isHung
    }

    func abandon(_ error: any Error) -> Bool {
        guard call.answer() else { return false }
        continuation.resume(throwing: error)
        return true
    }

    func fail(_ error: any Error) { _ = abandon(error) }

    func markHung() -> Bool {
        state.withLock { state in
            guard !state.hasEnded else { return false }
            state.isHung = true
            return true
        }
    }

    /// Runs `action` when the call has ended, at once when it has already.
    func onEnd(_ action: @escaping @Sendable () -> Void) {
        let hasEnded = state.withLock { state in
            state.onEnd = action
            return state.hasEnded
        }
        if hasEnded { action() }
    }
}
