import Errors
import Machines
import Runtime
import Synchronization

/// Reports the ends of machines to whoever waits for them.
package final class MachineEnds: Sendable {
    private struct State {
        var listeners: [MachineID: [UInt64: AsyncStream<MachineEnd>.Continuation]] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// The machine's end, when it comes: noted from this call on, also while nobody listens.
    package func expected(of id: MachineID) -> AsyncStream<MachineEnd> {
        let (stream, continuation) = AsyncStream.makeStream(of: MachineEnd.self, bufferingPolicy: .bufferingOldest(1))
        let key = state.withLock { state in
            state.next += 1
            state.listeners[id, default: [:]][state.next] = continuation
            return state.next
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { state in
                state.listeners[id]?[key] = nil
                if state.listeners[id]?.isEmpty == true { state.listeners[id] = nil }
            }
        }
        return stream
    }

    /// Returns the reason for people when the machine has ended; nil when the caller is cancelled.
    package func wait(for id: MachineID) async -> String? { await end(of: id)?.description }

    /// Returns how the machine has ended, when it has; nil when the caller is cancelled.
    package func end(of id: MachineID) async -> MachineEnd? { await expected(of: id).first { _ in true } }

    package func ended(_ id: MachineID, _ end: MachineEnd) {
        let listeners = state.withLock { $0.listeners.removeValue(forKey: id) ?? [:] }
        for listener in listeners.values {
            listener.yield(end)
            listener.finish()
        }
    }

    /// Machines whose end is expected.
    package var awaited: [MachineID] { state.withLock { Array($0.listeners.keys) } }
}
