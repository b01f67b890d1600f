import Runtime

extension PodRegistry {
    /// Every change of sandboxes and containers from now on, each after lists show it, in the order in which they show it.
    ///
    /// - Throws: the stream throws `.resourceExhausted` when its reader falls behind; `.unavailable` when the daemon ends.
    public func events() -> AsyncThrowingStream<PodEvent, any Error> {
        context.snapshots.events.watch()
    }

    /// Streams of events that are read now.
    public var eventWatchers: Int { context.snapshots.events.watchers }

    /// Ends all streams of events, so that a server can end.
    public func endEvents() {
        context.snapshots.events.close()
    }

    /// A sandbox and its containers as of one moment, the oldest container first.
    ///
    /// - Throws: `.notFound`.
    public func pod(_ id: String) throws -> (sandbox: SandboxSnapshot, containers: [ListEntry<ContainerSnapshot>]) {
        let sandbox = try sandbox(id)
        return context.snapshots.pod(sandbox.id) ?? (sandbox, [])
    }
}
