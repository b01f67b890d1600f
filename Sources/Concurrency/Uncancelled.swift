/// Runs `body` to its end, whether or not the caller is cancelled: what has begun to change disk and database must not stop
/// half-way, and cleaning up must not be skipped.
public func uncancelled<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
    try await Task { try await body() }.value
}
