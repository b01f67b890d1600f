import Errors
import GuestHardware

/// A disk, which the guest finds by its serial.
public struct DiskSpec: Sendable, Codable, Equatable {
    public enum Format: String, Sendable, Codable {
        case raw
        case qcow2
    }

    public typealias Bus = DiskBus

    /// What `path` is.
    public enum Medium: String, Sendable, Codable {
        case file
        /// A block device; see `BlockDeviceNode` for one that QEMU's user can open.
        case blockDevice
    }

    /// A file that many machines read, below one that is written to. It has none below itself.
    public struct Backing: Sendable, Codable, Equatable {
        public var path: String
        public var format: Format

        public init(path: String, format: Format) {
            self.path = path
            self.format = format
        }
    }

    /// Readable (and writable, unless `readOnly`) by QEMU's user: nobody changes its owner.
    public var path: String
    /// 1 to `bus.longestSerial` of `A-Z a-z 0-9 . _ -`. Unique within the machine.
    public var serial: String
    /// Several machines may use one read-only file at once.
    public var readOnly: Bool
    /// Never probed: a guest could write another format's header into a raw disk.
    public var format: Format
    /// The content need not outlive the machine: the guest's flushes cost nothing.
    public var ephemeral: Bool
    public var bus: Bus
    public var medium: Medium
    /// What a qcow2 overlay lies on, whatever its header says; nil: on nothing.
    public var backing: Backing?
    /// Position in the firmware's boot order, from 1. With one position given, devices without are not booted from.
    public var bootOrder: Int?

    public init(
        path: String, serial: String, readOnly: Bool, format: Format = .raw, ephemeral: Bool = false, bus: Bus = .scsi,
        medium: Medium = .file, backing: Backing? = nil, bootOrder: Int? = nil
    ) {
        self.path = path
        self.serial = serial
        self.readOnly = readOnly
        self.format = format
        self.ephemeral = ephemeral
        self.bus = bus
        self.medium = medium
        self.backing = backing
        self.bootOrder = bootOrder
    }
}

extension DiskSpec {
    /// - Throws: `invalidArgument` for what must not reach libvirt's XML.
    func validate() throws {
        func require(_ holds: Bool, _ problem: @autoclosure () -> String) throws {
            guard holds else { throw SwiftletError(.invalidArgument, "disk \(path): \(problem())") }
        }
        try MachineSpec.checkPath(path)
        try require(
            MachineSpec.isName(serial, longest: bus.longestSerial),
            "serial \(serial.prefix(64).debugDescription) is not 1 to \(bus.longestSerial) letters, digits, '.', '_', '-'")
        try require(medium == .file || format == .raw, "a block device is raw, not \(format)")
        // ATA knows no read-only disks, and QEMU has none.
        try require(bus != .sata || !readOnly, "a SATA disk cannot be read-only")
        if let bootOrder { try require((1...32).contains(bootOrder), "boot position \(bootOrder) is outside of 1 to 32") }
        if let backing {
            try MachineSpec.checkPath(backing.path)
            try require(format == .qcow2, "only a qcow2 disk lies on another, not \(format)")
        }
    }
}
