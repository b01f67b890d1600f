import Errors
import Synchronization

/// Runs `operation` and waits for it no longer than `limit`.
///
/// The operation runs in a task of its own that does not inherit the caller's cancellation: what was
/// begun is brought to an end. When the limit passes it is cancelled and left behind, and the caller
/// goes on, even if the operation does not react.
///
/// - Parameter limit: of more than 100 years, 100 years: a clock that counts further overflows, and grace periods are tenants' to
///   choose.
/// - Throws: `.deadlineExceeded` naming `step`, or what the operation throws.
public func withDeadline<Value: Sendable>(
    _ limit: Duration, _ step: String, _ operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    let limit = min(limit, .seconds(100 * 365 * 86400))
    let race = Race<Value>()
    let work = Task {
        do {
            race.finish(.success(try await operation()))
        } catch {
            race.finish(.failure(error))
        }
    }
    let timer = Task {
        try await Task.sleep(for: limit)
        race.finish(.failure(SwiftletError(.deadlineExceeded, "\(step): no answer within \(limit.components.seconds) s")))
        work.cancel()
    }
    defer { timer.cancel() }
    return try await withCheckedThrowingContinuation { race.await($0) }
}

/// The first of several results; the others are dropped.
private final class Race<Value: Sendable>: Sendable {
    private enum State {
        case open
        case waiting(CheckedContinuation<Value, any Error>)
        case finished(Result<Value, any Error>)
        case delivered
    }

    private let state = Mutex(State.open)

    func finish(_ result: Result<Value, any Error>) {
        let waiter: CheckedContinuation<Value, any Error>? = state.withLock { state in
            switch state {
            case .open:
                state = .finished(result)
                return nil
            case .waiting(let continuation):
                state = .delivered
                return continuation
            case .finished, .delivered:
                return nil
            }
        }
        waiter?.resume(with: result)
    }

    func await(_ continuation: CheckedContinuation<Value, any Error>) {
        let result: Result<Value, any Error>? = state.withLock { state in
            guard case .finished(let result) = state else {
                state = .waiting(continuation)
                return nil
            }
            state = .delivered
            return result
        }
        if let result { continuation.resume(with: result) }
    }
}
