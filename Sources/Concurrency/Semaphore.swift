import Errors
import Synchronization

/// Whose machine boots now, and who waits for a turn, first come, first served.
///
/// Boots that share the node's CPUs all take longer: of many at once, the last would run into their time-outs although nothing is
/// wrong with them. A machine that does not come up keeps its turn until its time-out.
final class BootTurns: Sendable {
    private struct State {
        var booting: Set<String> = []
        var waiting: [(id: String, turn: CheckedContinuation<Void, any Error>)] = []
        /// Cancelled before they began to wait.
        var cancelled: Set<String> = []
    }

    /// Machines that may boot at once.
    private let most: Int
    private let state = Mutex(State())

    init(most: Int) {
        self.most = max(most, 1)
    }

    /// Machines that wait for a turn.
    var waiting: Int { state.withLock { $0.waiting.count } }

    /// Returns when the machine may boot. Every call is followed by `leave`.
    ///
    /// - Throws: `CancellationError`.
    func enter(_ id: String) async throws {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { turn in
                let result: Result<Void, any Error>? = state.withLock { state in
                    if state.cancelled.remove(id) != nil { return .failure(CancellationError()) }
                    guard state.booting.count >= most else {
                        state.booting.insert(id)
                        return .success(())
                    }
                    state.waiting.append((id, turn))
                    return nil
                }
                if let result { turn.resume(with: result) }
            }
        } onCancel: {
            let turn: CheckedContinuation<Void, any Error>? = state.withLock { state in
                guard let index = state.waiting.firstIndex(where: { $0.id == id }) else {
                    if !state.booting.contains(id) { state.cancelled.insert(id) }
                    return nil
                }
                return state.waiting.remove(at: index).turn
            }
            turn?.resume(throwing: CancellationError())
        }
    }

    /// Gives the turn to the next. May be repeated.
    func leave(_ id: String) {
        let next: CheckedContinuation<Void, any Error>? = state.withLock { state in
            state.cancelled.remove(id)
            guard state.booting.remove(id) != nil, !state.waiting.isEmpty else { return nil }
            let first = state.waiting.removeFirst()
            state.booting.insert(first.id)
            return first.turn
        }
        next?.resume()
    }
}
