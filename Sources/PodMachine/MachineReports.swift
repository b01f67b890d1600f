import Errors
import Machines
import Runtime
import Synchronization

/// Passes what is reported of a machine, once, on to whoever waits for it.
package final class MachineReports<Report: Sendable>: Sendable {
    private struct State {
        var listeners: [MachineID: [UInt64: AsyncStream<Report>.Continuation]] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// The machine's next report, when it comes: noted from this call on, also while nobody listens.
    package func expected(of id: MachineID) -> AsyncStream<Report> {
        let (stream, continuation) = AsyncStream.makeStream(of: Report.self, bufferingPolicy: .bufferingOldest(1))
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

    package func report(_ report: Report, of id: MachineID) {
        let listeners = state.withLock { $0.listeners.removeValue(forKey: id) ?? [:] }
        for listener in listeners.values {
            listener.yield(report)
            listener.finish()
        }
    }

    /// Machines of which a report is expected.
    package var awaited: [MachineID] { state.withLock { Array($0.listeners.keys) } }
}

/// Reports the ends of machines.
package typealias MachineEnds = MachineReports<MachineEnd>

extension MachineReports<MachineEnd> {
    /// Returns the reason for people when the machine has ended; nil when the caller is cancelled.
    package func wait(for id: MachineID) async -> String? { await end(of: id)?.description }

    /// Returns how the machine has ended, when it has; nil when the caller is cancelled.
    package func end(of id: MachineID) async -> MachineEnd? { await expected(of: id).first { _ in true } }

    package func ended(_ id: MachineID, _ end: MachineEnd) { report(end, of: id) }
}
