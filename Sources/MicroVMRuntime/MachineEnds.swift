import Errors
import Foundation
import Machines
import Runtime
import Synchronization

/// Tells whoever waits for it that a machine has ended.
final class MachineEnds: Sendable {
    private struct State {
        var waiters: [UUID: [UInt64: CheckedContinuation<String?, Never>]] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    /// Answers with the reason when the machine ends; nil when the caller is cancelled.
    func wait(for uuid: UUID) async -> String? {
        let key = state.withLock { state in
            state.next += 1
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let cancelled = state.withLock { state in
                    if Task.isCancelled { return true }
                    state.waiters[uuid, default: [:]][key] = continuation
                    return false
                }
                if cancelled { continuation.resume(returning: nil) }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters[uuid]?.removeValue(forKey: key) }
            waiter?.resume(returning: nil)
        }
    }

    func ended(_ uuid: UUID, _ reason: String) {
        let waiters = state.withLock { $0.waiters.removeValue(forKey: uuid) ?? [:] }
        for waiter in waiters.values { waiter.resume(returning: reason) }
    }

    /// Machines that somebody waits for.
    var awaited: [UUID] {
        state.withLock { $0.waiters.filter { !$0.value.isEmpty }.map(\.key) }
    }
}
