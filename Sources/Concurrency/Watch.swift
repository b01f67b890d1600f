/// Runs `body` with `watch` beside it, which ends the body by throwing: it is cancelled then, and waited for.
///
/// - Throws: what the first of the two throws; what `watch` throws does not depend on how the body reacts to its cancellation.
public func withWatch<Value: Sendable>(
    _ watch: @escaping @Sendable () async throws -> Never, _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await withThrowingTaskGroup(of: Value.self) { group in
        defer { group.cancelAll() }
        group.addTask { try await body() }
        group.addTask { try await watch() }
        guard let value = try await group.next() else { throw CancellationError() }
        return value
    }
}
