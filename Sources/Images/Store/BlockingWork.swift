import Dispatch
import Foundation
import Synchronization

/// Threads for work that blocks or computes for long, so that Swift's cooperative pool is left alone.
struct BlockingWork: Sendable {
    private let queue: DispatchQueue

    init(label: String) {
        queue = DispatchQueue(label: label, qos: .utility, attributes: .concurrent)
    }

    /// Runs `body` on a thread of its own. `isCancelled`, handed to it, turns true when the calling task is cancelled.
    func run<Value: Sendable>(
        _ body: @escaping @Sendable (_ isCancelled: @escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        let cancelled = CancellationFlag()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                queue.async {
                    continuation.resume(with: Result { try body { cancelled.isSet } })
                }
            }
        } onCancel: {
            cancelled.set()
        }
    }

    /// Deletes a file that is of no use any more; a start deletes what is left of them.
    func discard(_ path: String) async {
        _ = try? await run { _ in unlink(path) }
    }
}

private final class CancellationFlag: Sendable {
    private let value = Atomic(false)

    var isSet: Bool { value.load(ordering: .relaxed) }

    func set() { value.store(true, ordering: .relaxed) }
}

/// Runs `body` to its end, whatever becomes of the caller: what has begun to change disk and database must not stop half-way,
/// and cleaning up must not be skipped because the work was cancelled.
func uncancelled<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
    try await Task { try await body() }.value
}
