import DequeModule
import Synchronization

/// Lets a limited number of tasks through at a time, and shares the permits among the parties that the tasks belong to: a permit goes
/// to the party that holds the fewest, within it to the task that came first. A party that wants many holds up no other.
public final class FairSemaphore<Party: Hashable & Sendable>: Sendable {
    private struct Waiter {
        let number: UInt64
        let continuation: CheckedContinuation<Void, any Error>
    }

    /// Parties that neither hold nor want a permit are in neither dictionary.
    private struct State {
        var free: Int
        var held: [Party: Int] = [:]
        var waiters: [Party: Deque<Waiter>] = [:]
        var next: UInt64 = 0
    }

    private let perParty: Int
    private let state: Mutex<State>

    /// - Parameters:
    ///   - permits: tasks let through at a time; at least one.
    ///   - perParty: permits that one party gets at most; at least one.
    public init(permits: Int, perParty: Int = .max) {
        self.perParty = max(perParty, 1)
        state = Mutex(State(free: max(permits, 1)))
    }

    /// Tasks that wait for a permit.
    public var waiting: Int { state.withLock { $0.waiters.values.reduce(0) { $0 + $1.count } } }

    /// Permits that nobody holds.
    public var free: Int { state.withLock { $0.free } }

    /// Parties that hold permits or wait for one.
    var parties: Int { state.withLock { Set($0.held.keys).union($0.waiters.keys).count } }

    /// Waits for a permit, runs `body` with it, and gives it back however `body` ends.
    ///
    /// - Throws: `CancellationError` when the caller is cancelled while it waits, at once and without having run `body`; what `body`
    ///   throws.
    public func withPermit<Value>(
        for party: Party, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> sending Value
    ) async throws -> sending Value {
        try await acquire(party)
        defer { release(party) }
        // A permit may come at the moment of the cancellation.
        try Task.checkCancellation()
        return try await body()
    }

    private func acquire(_ party: Party, isolation: isolated (any Actor)? = #isolation) async throws {
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result: Result<Void, any Error>? = state.withLock { state in
                    // The task is marked as cancelled before its handlers run: a handler that came too early to find the
                    // waiter is seen here.
                    if Task.isCancelled { return .failure(CancellationError()) }
                    // While a permit is free, only parties that hold all they may have wait.
                    guard state.free > 0, state.held[party, default: 0] < perParty else {
                        state.waiters[party, default: []].append(Waiter(number: number, continuation: continuation))
                        return nil
                    }
                    state.free -= 1
                    state.held[party, default: 0] += 1
                    return .success(())
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            let waiter: Waiter? = state.withLock { state in
                guard let index = state.waiters[party]?.firstIndex(where: { $0.number == number }) else { return nil }
                let waiter = state.waiters[party]?.remove(at: index)
                if state.waiters[party]?.isEmpty == true { state.waiters[party] = nil }
                return waiter
            }
            waiter?.continuation.resume(throwing: CancellationError())
        }
    }

    private func release(_ party: Party) {
        let next: Waiter? = state.withLock { state in
            let left = state.held[party, default: 0] - 1
            state.held[party] = left > 0 ? left : nil
            state.free += 1
            return grant(&state)
        }
        next?.continuation.resume()
    }

    /// The permit goes to who is next without becoming free between, so that nobody overtakes.
    private func grant(_ state: inout State) -> Waiter? {
        var next: (party: Party, held: Int, number: UInt64)?
        for (party, waiters) in state.waiters {
            guard let first = waiters.first, state.held[party, default: 0] < perParty else { continue }
            let candidate = (party: party, held: state.held[party, default: 0], number: first.number)
            // Of parties that hold equally many, the one whose first task has waited longest.
            if next.map({ (candidate.held, candidate.number) < ($0.held, $0.number) }) ?? true { next = candidate }
        }
        guard let party = next?.party, let waiter = state.waiters[party]?.popFirst() else { return nil }
        if state.waiters[party]?.isEmpty == true { state.waiters[party] = nil }
        state.held[party, default: 0] += 1
        state.free -= 1
        return waiter
    }
}
