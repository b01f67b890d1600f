/// A device of a machine, there from its start or plugged in later.
public enum MachineDevice: Sendable, Codable, Equatable {
    case disk(DiskSpec)
    case interface(InterfaceSpec)
    case vsock(VsockDeviceSpec)
    case filesystem(FilesystemSpec)
    /// The first serial port; from the start only.
    case console(ConsoleSpec)
    /// Entropy from the host; from the start only.
    case random
    /// Gives pages that the guest has freed back to the host; from the start only.
    case balloon

    public var id: DeviceID {
        switch self {
        case .disk(let disk): .disk(serial: disk.serial)
        case .interface(let interface): .interface(mac: interface.mac)
        case .vsock: .vsock
        case .filesystem(let filesystem): .filesystem(tag: filesystem.tag)
        case .console: .console
        case .random: .random
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
    case random
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
    /// Bytes; nil leaves the guest's device at 1500.
    public var mtu: Int?

    public init(tap: String, mac: String, mtu: Int? = nil) {
        self.tap = tap
        self.mac = mac
        self.mtu = mtu
    }
}

/// A disk the guest sees as a SCSI unit and finds by its serial.
public struct DiskSpec: Sendable, Codable, Equatable {
    public enum Format: String, Sendable, Codable {
        case raw
        case qcow2
    }

    /// Readable (and writable, unless `readOnly`) by QEMU's user: nobody changes its owner.
    public var path: String
    /// 1 to 36 of `A-Z a-z 0-9 . _ -`: what QEMU's SCSI disks take. Unique within the machine.
    public var serial: String
    /// Several machines may use one read-only file at once.
    public var readOnly: Bool
    public var format: Format
    /// The content need not outlive the machine: the guest's flushes cost nothing.
    public var ephemeral: Bool

    public init(path: String, serial: String, readOnly: Bool, format: Format = .raw, ephemeral: Bool = false) {
        self.path = path
        self.serial = serial
        self.readOnly = readOnly
        self.format = format
        self.ephemeral = ephemeral
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

/// Where the bytes of the first serial port go.
public struct ConsoleSpec: Sendable, Codable, Equatable {
    /// The file that gets what the guest writes.
    public var log: String

    public init(log: String) { self.log = log }
}

extension DeviceID: CustomStringConvertible {
    public var description: String {
        switch self {
        case .disk(let serial): "disk \(serial)"
        case .interface(let mac): "interface \(mac)"
        case .vsock: "vsock device"
        case .filesystem(let tag): "filesystem \(tag)"
        case .console: "console"
        case .random: "random source"
        case .balloon: "balloon"
        }
    }
}
