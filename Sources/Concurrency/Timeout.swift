import Errors

/// Runs `operation` no longer than `limit`, as a part of the caller's work: when the caller is cancelled, it is too. Unlike
/// ``withDeadline(_:_:_:)`` it waits for an operation that reacts late to its cancellation.
///
/// - Throws: `.deadlineExceeded` naming `step`, or what the operation throws.
public func withTimeout<Value: Sendable>(
    _ limit: Duration, _ step: String, _ operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    // A clock that counts further overflows.
    let limit = min(limit, .seconds(100 * 365 * 86400))
    return try await withWatch(
        {
            try await Task.sleep(for: limit)
            throw SwiftletError(.deadlineExceeded, "\(step): no answer within \(limit.components.seconds) s")
        }, operation)
}
