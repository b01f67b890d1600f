import GuestHardware

/// A device of a machine, there from its start or plugged in later.
public enum MachineDevice: Sendable, Codable, Equatable {
    case disk(DiskSpec)
    case interface(InterfaceSpec)
    case vsock(VsockDeviceSpec)
    case filesystem(FilesystemSpec)
    /// The first serial port; from the start only.
    case console(ConsoleSpec)
    /// A port that a program in the guest opens (virtio-serial); from the start only.
    case channel(ChannelSpec)
    /// Entropy from the host; from the start only.
    case random
    /// The guest's kernel tells of its panic by it; from the start only.
    case panic
    /// Ends or resets a guest that does not feed it any more; from the start only.
    case watchdog(WatchdogAction)
    /// From the start only.
    case display(DisplaySpec)
    /// A TPM 2.0; its `TPMEmulator` listens already. From the start only.
    case tpm(TPMSpec)
    /// Gives pages that the guest has freed back to the host; from the start only.
    case balloon

    public var id: DeviceID {
        switch self {
        case .disk(let disk): .disk(serial: disk.serial)
        case .interface(let interface): .interface(mac: interface.mac)
        case .vsock: .vsock
        case .filesystem(let filesystem): .filesystem(tag: filesystem.tag)
        case .console: .console
        case .channel(let channel): .channel(name: channel.name)
        case .random: .random
        case .panic: .panic
        case .watchdog: .watchdog
        case .display: .display
        case .tpm: .tpm
        case .balloon: .balloon
        }
    }
}

/// Tells a device from the others of its machine, by what the guest knows it by.
public enum DeviceID: Sendable, Codable, Hashable {
    case disk(serial: String)
    case interface(mac: String)
    case vsock
    case filesystem(tag: String)
    case console
    case channel(name: String)
    case random
    case panic
    case watchdog
    case display
    case tpm
    case balloon
}

/// The guest's vsock device, for host and guest to talk without a network.
public enum VsockDeviceSpec: Sendable, Codable, Equatable {
    /// A vhost-user backend listens on `socket` before the machine starts. `cid` is what the backend announces to the guest.
    case vhostUser(socket: String, cid: UInt32)
    /// The host kernel's vhost-vsock.
    case kernel(cid: UInt32)
}

/// A network device on a tap that exists already, in libvirt's network namespace at the time of the start.
public struct InterfaceSpec: Sendable, Codable, Equatable {
    public var tap: String
    /// Six hexadecimal octets with colons, unicast. Unique within the machine.
    public var mac: String
    /// Bytes; the guest's device has this MTU without any configuration. Nil leaves it at 1500.
    public var mtu: Int?
    /// Whether the firmware may boot from the network by it.
    public var bootROM: Bool
    /// Position in the firmware's boot order, from 1; needs `bootROM`.
    public var bootOrder: Int?

    public init(tap: String, mac: String, mtu: Int? = nil, bootROM: Bool = false, bootOrder: Int? = nil) {
        self.tap = tap
        self.mac = mac
        self.mtu = mtu
        self.bootROM = bootROM
        self.bootOrder = bootOrder
    }
}

/// A directory of the host that the guest mounts by its tag; a vhost-user backend serves it.
public struct FilesystemSpec: Sendable, Codable, Equatable {
    /// 1 to 36 of `A-Z a-z 0-9 . _ -` (virtio 1.2, section 5.11.4: 36 bytes). Unique within the machine.
    public var tag: String
    /// Where the backend listens. At most 107 bytes.
    public var socket: String

    public init(tag: String, socket: String) {
        self.tag = tag
        self.socket = socket
    }
}

/// The guest's TPM.
public struct TPMSpec: Sendable, Codable, Equatable {
    /// Where the emulator listens. At most 107 bytes.
    public var socket: String

    public init(socket: String) { self.socket = socket }
}

/// Where the bytes of the first serial port go.
public struct ConsoleSpec: Sendable, Codable, Equatable {
    /// The file that gets all that the guest writes, whoever listens.
    public var log: String
    /// A unix socket that takes one client at a time, which reads what the guest writes from then on and writes what the guest reads. A
    /// client that does not read stops the guest's output. libvirt makes it, as root's. At most 107 bytes; nil: nobody can write.
    public var socket: String?

    public init(log: String, socket: String? = nil) {
        self.log = log
        self.socket = socket
    }
}

/// A port that a program in the guest opens as /dev/virtio-ports/NAME, and a unix socket that takes one client at a time.
public struct ChannelSpec: Sendable, Codable, Equatable {
    /// The name of the port that qemu-guest-agent opens.
    public static let guestAgent = "org.qemu.guest_agent.0"

    /// 1 to 36 of `A-Z a-z 0-9 . _ -`. Unique within the machine.
    public var name: String
    /// QEMU makes it, so its user must be able to write to the directory. At most 107 bytes.
    public var socket: String

    public init(name: String = ChannelSpec.guestAgent, socket: String) {
        self.name = name
        self.socket = socket
    }
}

extension DeviceID: CustomStringConvertible {
    public var description: String {
        switch self {
        case .disk(let serial): "disk \(serial)"
        case .interface(let mac): "interface \(mac)"
        case .vsock: "vsock device"
        case .filesystem(let tag): "filesystem \(tag)"
        case .console: "console"
        case .channel(let name): "channel \(name)"
        case .random: "random source"
        case .panic: "panic device"
        case .watchdog: "watchdog"
        case .display: "display"
        case .tpm: "TPM"
        case .balloon: "balloon"
        }
    }
}
