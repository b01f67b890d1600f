import Synchronization

/// Work that is done one after the other, in the order in which it was asked for.
final class Turns: Sendable {
    private let last = Mutex<Task<Void, Never>?>(nil)

    /// Does `work` when all that was asked for before has ended, however it ended. The work goes on when the caller is cancelled.
    func take<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let turn = last.withLock { last in
            let earlier = last
            let turn = Task {
                await earlier?.value
                return try await work()
            }
            last = Task { _ = await turn.result }
            return turn
        }
        return try await turn.value
    }

    /// As above, for work that cannot fail.
    func take<Value: Sendable>(_ work: @escaping @Sendable () async -> Value) async -> Value {
        let turn = last.withLock { last in
            let earlier = last
            let turn = Task {
                await earlier?.value
                return await work()
            }
            last = Task { _ = await turn.value }
            return turn
        }
        return await turn.value
    }

    /// Returns when all that was asked for up to now has ended.
    func ended() async {
        await last.withLock { $0 }?.value
    }
}
