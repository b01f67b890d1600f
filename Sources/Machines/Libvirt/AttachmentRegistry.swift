import Synchronization

/// What is attached to each machine, so that no change of a machine has to ask libvirt for all of it.
///
/// A change takes what is known out and puts it back when it has ended well. One that failed, or of which nobody waits for the end
/// any more, leaves nothing: the next one asks libvirt.
final class AttachmentRegistry: Sendable {
    private enum Entry {
        case known(MachineAttachments)
        case changing
    }

    private let machines = Mutex<[MachineID: Entry]>([:])

    /// A machine has been started.
    func insert(_ attachments: MachineAttachments, of id: MachineID) {
        machines.withLock { $0[id] = .known(attachments) }
    }

    /// A machine has ended, or what is attached to it is not known any more.
    func remove(_ id: MachineID) {
        _ = machines.withLock { $0.removeValue(forKey: id) }
    }

    /// Begins a change. Changes of one machine come one after the other.
    ///
    /// - Returns: what is attached; nil when that is not known.
    func beginChange(of id: MachineID) -> MachineAttachments? {
        machines.withLock { machines in
            defer { machines[id] = .changing }
            if case .known(let attachments) = machines[id] { return attachments }
            return nil
        }
    }

    /// Ends a change.
    ///
    /// - Parameter attachments: what is attached now; nil when that is not known. A machine that has ended meanwhile stays forgotten.
    func endChange(of id: MachineID, _ attachments: MachineAttachments?) {
        machines.withLock { machines in
            guard case .changing = machines[id] else { return }
            machines[id] = attachments.map { .known($0) }
        }
    }
}
