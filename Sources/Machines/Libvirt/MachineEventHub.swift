import CLibvirt
import Synchronization

/// Makes machines' events of libvirt's, and hands every one to every listener.
final class MachineEventHub: Sendable {
    /// A listener that falls further behind loses the oldest events; far more than the machines of a node can cause.
    private static let mostBuffered = 8192

    /// A guest that reboots resets its machine in several ways, one after the other.
    private static let debounce: Duration = .seconds(1)

    private enum ShutdownReason {
        case guestReset
        case signal
        case watchdog
        case other
    }

    private struct State {
        /// Why QEMU is about to end, as it said first: libvirt's own signal follows.
        var shutdowns: [MachineID: ShutdownReason] = [:]
        /// When a machine was last seen to reboot.
        var reboots: [MachineID: ContinuousClock.Instant] = [:]
        var listeners: [UInt64: AsyncStream<MachineEvent>.Continuation] = [:]
        var next: UInt64 = 0
        var closed = false
    }

    private let state = Mutex(State())
    /// libvirt's directory of its domains' logs; nil: there is none to read.
    let logDirectory: String?

    init(logDirectory: String?) { self.logDirectory = logDirectory }

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

// MARK: What libvirt says

extension MachineEventHub {
    /// A lifecycle event of a domain.
    func receive(_ id: MachineID, name: String, lifecycle: Int32, detail: Int32) {
        switch virDomainEventType(rawValue: UInt32(bitPattern: lifecycle)) {
        // A crash kernel that was loaded may go on.
        case VIR_DOMAIN_EVENT_CRASHED where detail == Int32(VIR_DOMAIN_EVENT_CRASHED_PANICKED.rawValue):
            send(.stopped(id, .panicked))
        case VIR_DOMAIN_EVENT_STOPPED:
            let detail = virDomainEventStoppedDetailType(rawValue: UInt32(bitPattern: detail))
            send(.stopped(id, end(detail, forget(id), name: name)))
        case VIR_DOMAIN_EVENT_STARTED: _ = forget(id)
        case VIR_DOMAIN_EVENT_SUSPENDED where Self.pauses.contains(detail): send(.pauseChanged(id))
        case VIR_DOMAIN_EVENT_RESUMED: send(.pauseChanged(id))
        default: break
        }
    }

    /// Other stops, such as a full disk's, are no pauses.
    private static let pauses = [
        Int32(VIR_DOMAIN_EVENT_SUSPENDED_PAUSED.rawValue), Int32(VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG.rawValue),
    ]

    private func forget(_ id: MachineID) -> ShutdownReason? {
        state.withLock { state in
            state.reboots[id] = nil
            return state.shutdowns.removeValue(forKey: id)
        }
    }

    private func lastWords(_ name: String) -> String { logDirectory.flatMap { DomainLog(directory: $0, name: name) }?.lastWords ?? "" }

    private func end(_ detail: virDomainEventStoppedDetailType, _ reason: ShutdownReason?, name: String) -> MachineEnd {
        // QEMU ends without a word then.
        if reason == .watchdog { return .watchdog }
        return switch detail {
        case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
            switch reason {
            case .guestReset: .reset
            case .signal: .failed(lastWords: lastWords(name))
            case .other, .watchdog, nil: .poweredOff
            }
        case VIR_DOMAIN_EVENT_STOPPED_DESTROYED: .destroyed
        case VIR_DOMAIN_EVENT_STOPPED_CRASHED: .panicked
        case VIR_DOMAIN_EVENT_STOPPED_SAVED: .saved
        case VIR_DOMAIN_EVENT_STOPPED_FAILED:
            .failed(lastWords: lastWords(name))
        default: .unseen
        }
    }

    /// QEMU's own event SHUTDOWN, which tells a power-off from a reset that is to end the machine, and from a signal of somebody's.
    ///
    /// - Parameter details: JSON, by libvirt.
    func receiveShutdown(_ id: MachineID, details: String) {
        let reason: ShutdownReason =
            if details.contains(#""reason":"guest-reset""#) {
                .guestReset
            } else if details.contains(#""reason":"host-signal""#) {
                .signal
            } else {
                .other
            }
        state.withLock { if $0.shutdowns[id] == nil { $0.shutdowns[id] = reason } }
    }

    func receiveWatchdog(_ id: MachineID, action: Int32) {
        guard action == Int32(VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF.rawValue) else { return }
        state.withLock { $0.shutdowns[id] = .watchdog }
    }

    func receiveReboot(_ id: MachineID) {
        let isNew = state.withLock { state in
            defer { state.reboots[id] = .now }
            return state.reboots[id].map { $0.duration(to: .now) > Self.debounce } ?? true
        }
        if isNew { send(.rebooted(id)) }
    }

    /// A failed access to a disk, which stops the machine for want of room: other errors go to the guest.
    func receiveDiskError(_ id: MachineID, _ reason: String, of path: String, action: Int32) {
        guard reason == "enospc", action == Int32(VIR_DOMAIN_EVENT_IO_ERROR_PAUSE.rawValue) else { return }
        send(.diskFull(id, path: path))
    }
}
