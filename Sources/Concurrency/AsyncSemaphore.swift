import DequeModule
import Synchronization

/// Lets a limited number of tasks through at a time, in the order in which they came.
public final class AsyncSemaphore: Sendable {
    private struct Waiter {
        let number: UInt64
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var free: Int
        var waiters: Deque<Waiter> = []
        var next: UInt64 = 0
    }

    private let state: Mutex<State>

    /// - Parameter permits: tasks let through at a time; at least one.
    public init(permits: Int) {
        state = Mutex(State(free: max(permits, 1)))
    }

    /// Tasks that wait for a permit.
    public var waiting: Int { state.withLock { $0.waiters.count } }

    /// Permits that nobody holds.
    public var free: Int { state.withLock { $0.free } }

    /// Waits for a permit, runs `body` with it, and gives it back however `body` ends.
    ///
    /// - Throws: `CancellationError` when the caller is cancelled while it waits, at once and without having run `body`; what `body`
    ///   throws.
    public func withPermit<Value>(
        isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> sending Value
    ) async throws -> sending Value {
        try await acquire()
        defer { release() }
        // A permit may come at the moment of the cancellation.
        try Task.checkCancellation()
        return try await body()
    }

    private func acquire(isolation: isolated (any Actor)? = #isolation) async throws {
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result: Result<Void, any Error>? = state.withLock { state in
                    // The task is marked as cancelled before its handlers run: a handler that came too early to find the
                    // waiter is seen here.
                    if Task.isCancelled { return .failure(CancellationError()) }
                    guard state.free == 0 else {
                        state.free -= 1
                        return .success(())
                    }
                    state.waiters.append(Waiter(number: number, continuation: continuation))
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            let waiter: Waiter? = state.withLock { state in
                guard let index = state.waiters.firstIndex(where: { $0.number == number }) else { return nil }
                return state.waiters.remove(at: index)
            }
            waiter?.continuation.resume(throwing: CancellationError())
        }
    }

    private func release() {
        let next: Waiter? = state.withLock { state in
            // The permit goes to the next in the queue without becoming free between, so that nobody overtakes.
            guard let next = state.waiters.popFirst() else {
                state.free += 1
                return nil
            }
            return next
        }
        next?.continuation.resume()
    }
}
