import Errors
import Machines
import Runtime
import Synchronization

/// Reports the ends of machines to whoever waits for them.
package final class MachineEnds: Sendable {
    private struct State {
        var waiters: [MachineID: [UInt64: CheckedContinuation<MachineEnd?, Never>]] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// Returns the reason for people when the machine has ended; nil when the caller is cancelled.
    package func wait(for id: MachineID) async -> String? { await end(of: id)?.description }

    /// Returns how the machine has ended, when it has; nil when the caller is cancelled.
    package func end(of id: MachineID) async -> MachineEnd? {
        let key = state.withLock { state in
            state.next += 1
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let cancelled = state.withLock { state in
                    if Task.isCancelled { return true }
                    state.waiters[id, default: [:]][key] = continuation
                    return false
                }
                if cancelled { continuation.resume(returning: nil) }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters[id]?.removeValue(forKey: key) }
            waiter?.resume(returning: nil)
        }
    }

    package func ended(_ id: MachineID, _ end: MachineEnd) {
        let waiters = state.withLock { $0.waiters.removeValue(forKey: id) ?? [:] }
        for waiter in waiters.values { waiter.resume(returning: end) }
    }

    /// Machines that somebody waits for.
    package var awaited: [MachineID] {
        state.withLock { $0.waiters.filter { !$0.value.isEmpty }.map(\.key) }
    }
}
