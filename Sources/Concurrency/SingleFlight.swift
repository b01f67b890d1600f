import Synchronization

/// Joins equal work: whoever asks for a key that is being worked on gets that work's outcome.
///
/// A caller returns when the work has ended, whether or not it is cancelled: what the work acquired or changed is then known.
/// ``WhenAbandoned`` says what becomes of the work when all callers were cancelled. An outcome is not kept: the next call after the
/// end works again. Work that waits for a call with its own key waits for itself, for ever.
public final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// What becomes of work whose callers were all cancelled.
    public enum WhenAbandoned: Sendable, Equatable {
        /// It goes on to its end: what was begun is brought to an end, and a retry joins it.
        case finish
        /// It is cancelled. A caller that comes after that waits for its end and then works anew.
        case cancel
        /// As `cancel`, unless somebody joins it within a time.
        case cancelAfter(Duration)
    }

    private struct Flight {
        let number: UInt64
        let task: Task<Value, any Error>
        /// Callers that were not cancelled.
        var interested = 1
        /// How often the last of them was cancelled.
        var departures = 0
        /// Noted under the lock, before the task is cancelled outside of it: nobody joins work that is about to be cancelled.
        var isAbandoned = false
    }

    private struct State {
        var flights: [Key: Flight] = [:]
        var next: UInt64 = 0
        var waiting = 0
    }

    private let whenAbandoned: WhenAbandoned
    private let state = Mutex(State())

    public init(whenAbandoned: WhenAbandoned) {
        self.whenAbandoned = whenAbandoned
    }

    /// Callers that wait now, of all keys.
    public var waiting: Int { state.withLock { $0.waiting } }

    /// Whether work for `key` is under way.
    public func isRunning(_ key: Key) -> Bool { state.withLock { $0.flights[key] != nil } }

    /// Runs `work`, or joins the work for `key` that is under way.
    ///
    /// - Throws: what the work throws, to all who wait for it.
    public func run(_ key: Key, _ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let (number, task) = state.withLock { state in
            state.waiting += 1
            if var flight = state.flights[key], !flight.isAbandoned {
                flight.interested += 1
                state.flights[key] = flight
                return (flight.number, flight.task)
            }
            return start(key, work, &state)
        }
        defer { state.withLock { $0.waiting -= 1 } }
        return try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            leave(key, number)
        }
    }

    /// Cancels all work.
    ///
    /// - Returns: the work that was under way, to wait for its end.
    @discardableResult
    public func cancel() -> [Task<Value, any Error>] {
        let tasks = state.withLock { state in
            for key in state.flights.keys { state.flights[key]?.isAbandoned = true }
            return state.flights.values.map(\.task)
        }
        for task in tasks { task.cancel() }
        return tasks
    }

    /// Cancels all work and waits for its end.
    public func cancelAll() async {
        for task in cancel() { _ = await task.result }
    }

    private func start(
        _ key: Key, _ work: @escaping @Sendable () async throws -> Value, _ state: inout State
    ) -> (UInt64, Task<Value, any Error>) {
        state.next += 1
        let number = state.next
        let cancelled = state.flights[key]?.task
        let task = Task { [self] in
            defer { finish(key, number) }
            _ = await cancelled?.result
            return try await work()
        }
        state.flights[key] = Flight(number: number, task: task)
        return (number, task)
    }

    private func finish(_ key: Key, _ number: UInt64) {
        state.withLock { state in
            if state.flights[key]?.number == number { state.flights[key] = nil }
        }
    }

    private func leave(_ key: Key, _ number: UInt64) {
        guard whenAbandoned != .finish else { return }
        let departure: Int? = state.withLock { state in
            guard var flight = state.flights[key], flight.number == number else { return nil }
            flight.interested -= 1
            if flight.interested == 0 { flight.departures += 1 }
            state.flights[key] = flight
            return flight.interested == 0 ? flight.departures : nil
        }
        guard let departure else { return }
        guard case .cancelAfter(let grace) = whenAbandoned else { return abandon(key, number, departure) }
        Task {
            try? await Task.sleep(for: grace)
            abandon(key, number, departure)
        }
    }

    /// Cancels work that nobody has waited for since a departure.
    private func abandon(_ key: Key, _ number: UInt64, _ departure: Int) {
        let abandoned: Task<Value, any Error>? = state.withLock { state in
            guard let flight = state.flights[key], flight.number == number, flight.interested == 0, flight.departures == departure
            else { return nil }
            state.flights[key]?.isAbandoned = true
            return flight.task
        }
        abandoned?.cancel()
    }
}

/// The key of single flights that have no key.
public struct NoKey: Hashable, Sendable {
    public init() {}
}

extension SingleFlight where Key == NoKey {
    /// Runs `work`, or joins the work that is under way.
    public func run(_ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await run(NoKey(), work)
    }

    /// Whether work is under way.
    public var isRunning: Bool { isRunning(NoKey()) }
}
