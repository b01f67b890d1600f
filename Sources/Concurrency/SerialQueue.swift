import Synchronization

/// Runs work one piece after the other, in the order in which it was asked for.
///
/// A piece that suspends keeps the queue: unlike an actor's methods, pieces never interleave. A piece that waits for another run of
/// its own queue waits for itself, for ever; it may ask for one without waiting for it.
public final class SerialQueue: Sendable {
    private struct State {
        /// Ends when everything that was asked for has ended.
        var last: Task<Void, Never>?
        var waiting = 0
        var isRunning = false
    }

    private let state = Mutex(State())

    public init() {}

    /// Pieces of work that were asked for and have not begun.
    public var waiting: Int { state.withLock { $0.waiting } }

    var isIdle: Bool { state.withLock { $0.waiting == 0 && !$0.isRunning } }

    /// Runs `work` when all that was asked for before has ended, whether it returned or threw.
    ///
    /// Cancelling the caller neither keeps `work` from running nor interrupts it, and the caller waits for its end: what it
    /// changed is then known.
    ///
    /// - Throws: what `work` throws.
    public func run<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await enqueue(work).value
    }

    /// As above, for work that does not throw.
    public func run<Value: Sendable>(_ work: @escaping @Sendable () async -> Value) async -> Value {
        await enqueue(work).value
    }

    /// Returns when all that was asked for up to now has ended. Counts as work that waits meanwhile.
    public func drained() async {
        await run {}
    }

    /// Takes the place in the queue, before it returns.
    func enqueue<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) -> Task<Value, any Error> {
        append { earlier in
            Task { [self] in
                await earlier?.value
                begin()
                defer { end() }
                return try await work()
            }
        }
    }

    private func enqueue<Value: Sendable>(_ work: @escaping @Sendable () async -> Value) -> Task<Value, Never> {
        append { earlier in
            Task { [self] in
                await earlier?.value
                begin()
                defer { end() }
                return await work()
            }
        }
    }

    private func append<Value: Sendable, Failure: Error>(
        _ start: (Task<Void, Never>?) -> Task<Value, Failure>
    ) -> Task<Value, Failure> {
        state.withLock { state in
            state.waiting += 1
            let task = start(state.last)
            state.last = Task { _ = await task.result }
            return task
        }
    }

    private func begin() {
        state.withLock { state in
            state.waiting -= 1
            state.isRunning = true
        }
    }

    private func end() {
        state.withLock { $0.isRunning = false }
    }
}

/// A serial queue for each key. Keys that nothing runs for take no memory.
public final class SerialQueues<Key: Hashable & Sendable>: Sendable {
    private let queues = Mutex<[Key: SerialQueue]>([:])

    public init() {}

    /// Pieces of work for `key` that were asked for and have not begun.
    public func waiting(_ key: Key) -> Int { queues.withLock { $0[key] }?.waiting ?? 0 }

    var keys: Int { queues.withLock { $0.count } }

    /// Runs `work` when all that was asked for before for `key` has ended, as ``SerialQueue/run(_:)`` does.
    public func run<Value: Sendable>(_ key: Key, _ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let task = queues.withLock { queues in
            let queue = queues[key] ?? SerialQueue()
            queues[key] = queue
            return queue.enqueue(work)
        }
        defer {
            queues.withLock { queues in
                if queues[key]?.isIdle == true { queues[key] = nil }
            }
        }
        return try await task.value
    }
}
