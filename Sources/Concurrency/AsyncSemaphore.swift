/// Lets a limited number of tasks through at a time, in the order in which they came.
public final class AsyncSemaphore: Sendable {
    private let permits: FairSemaphore<NoKey>

    /// - Parameter permits: tasks let through at a time; at least one.
    public init(permits: Int) {
        self.permits = FairSemaphore(permits: permits)
    }

    /// Tasks that wait for a permit.
    public var waiting: Int { permits.waiting }

    /// Permits that nobody holds.
    public var free: Int { permits.free }

    /// Waits for a permit, runs `body` with it, and gives it back however `body` ends.
    ///
    /// - Throws: `CancellationError` when the caller is cancelled while it waits, at once and without having run `body`; what `body`
    ///   throws.
    public func withPermit<Value>(
        isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> sending Value
    ) async throws -> sending Value {
        try await permits.withPermit(for: NoKey(), isolation: isolation, body)
    }
}
