/// How a machine ended.
public enum MachineEnd: Sendable, Codable, Hashable {
    /// The guest powered off.
    case poweredOff
    /// The guest reset the machine, whose policy is to end then.
    case reset
    /// The guest's kernel panicked, and told by the panic device.
    case panicked
    /// The guest did not feed its watchdog, whose action is to power the machine off.
    case watchdog
    /// Somebody ended it without asking the guest.
    case destroyed
    /// It is in a file now.
    case saved
    /// QEMU was killed or failed. Its last words are printable and at most 1 KiB; empty when it said nothing, as on SIGKILL.
    case failed(lastWords: String)
    /// It has ended, and nobody saw how; libvirt's log may tell (`Hypervisor.lastEnd`).
    case unseen
}

extension MachineEnd: CustomStringConvertible {
    public var description: String {
        switch self {
        case .poweredOff: "the guest shut down"
        case .reset: "the guest rebooted"
        case .panicked: "the guest crashed"
        case .watchdog: "the guest's watchdog ended it"
        case .destroyed: "destroyed"
        case .saved: "saved"
        case .failed(""): "QEMU was killed"
        case .failed(let words): "QEMU failed: \(words)"
        case .unseen: "ended while libvirt was away"
        }
    }
}
