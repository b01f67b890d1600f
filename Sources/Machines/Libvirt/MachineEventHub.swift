import CLibvirt
import Synchronization

/// Hands every event to every listener.
final class MachineEventHub: Sendable {
    /// A listener that falls further behind loses the oldest events; far more than the machines of a node can cause.
    private static let mostBuffered = 8192

    private struct State {
        var listeners: [UInt64: AsyncStream<MachineEvent>.Continuation] = [:]
        var next: UInt64 = 0
        var closed = false
    }

    private let state = Mutex(State())

    func events() -> AsyncStream<MachineEvent> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: MachineEvent.self, bufferingPolicy: .bufferingNewest(Self.mostBuffered))
        let key: UInt64? = state.withLock { state in
            guard !state.closed else { return nil }
            state.next += 1
            state.listeners[state.next] = continuation
            return state.next
        }
        guard let key else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            _ = self?.state.withLock { $0.listeners.removeValue(forKey: key) }
        }
        return stream
    }

    func send(_ event: MachineEvent) {
        let listeners = state.withLock { Array($0.listeners.values) }
        for listener in listeners { listener.yield(event) }
    }

    func close() {
        let listeners = state.withLock { state in
            state.closed = true
            return Array(state.listeners.values)
        }
        for listener in listeners { listener.finish() }
    }
}

extension MachineEvent {
    /// libvirt's lifecycle event, if it is one that ends a machine.
    init?(id: MachineID, lifecycle: Int32, detail: Int32) {
        switch virDomainEventType(rawValue: UInt32(bitPattern: lifecycle)) {
        case VIR_DOMAIN_EVENT_CRASHED:
            self = .crashed(id)
        case VIR_DOMAIN_EVENT_STOPPED:
            let detail = virDomainEventStoppedDetailType(rawValue: UInt32(bitPattern: detail))
            self = detail == VIR_DOMAIN_EVENT_STOPPED_CRASHED ? .crashed(id) : .stopped(id, reason: Self.reason(detail))
        default:
            return nil
        }
    }

    /// libvirt's event of a failed access to a disk, if it is one that stops the machine for want of room: other errors go to the guest.
    init?(id: MachineID, diskError reason: String, of path: String, action: Int32) {
        guard reason == "enospc", action == Int32(VIR_DOMAIN_EVENT_IO_ERROR_PAUSE.rawValue) else { return nil }
        self = .diskFull(id, path: path)
    }

    private static func reason(_ detail: virDomainEventStoppedDetailType) -> String {
        switch detail {
        case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "the guest shut down"
        case VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed"
        case VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "migrated"
        case VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved"
        case VIR_DOMAIN_EVENT_STOPPED_FAILED: "QEMU failed"
        default: "unknown"
        }
    }
}
