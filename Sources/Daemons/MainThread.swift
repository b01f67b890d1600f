import Dispatch
import Synchronization

/// What a daemon's synchronous main does last. An asynchronous one would have threads before the process has forked, or confined itself:
/// both are of the calling thread alone.
public enum MainThread {
    /// Blocks until `body` has ended.
    public static func run(_ body: @escaping @Sendable () async throws -> Void) throws {
        let ended = DispatchSemaphore(value: 0)
        let failure = Failure()
        Task {
            do {
                try await body()
            } catch {
                failure.value.withLock { $0 = error }
            }
            ended.signal()
        }
        ended.wait()
        if let error = failure.value.withLock({ $0 }) { throw error }
    }
}

/// Handed from the task to the main thread.
private final class Failure: Sendable {
    let value = Mutex<(any Error)?>(nil)
}
