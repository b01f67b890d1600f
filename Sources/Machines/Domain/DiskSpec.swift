import Errors

/// A disk, which the guest finds by its serial.
public struct DiskSpec: Sendable, Codable, Equatable {
    public enum Format: String, Sendable, Codable {
        case raw
        case qcow2
    }

    /// What the guest's driver speaks.
    public enum Bus: String, Sendable, Codable, CaseIterable {
        /// A unit of the machine's one virtio-scsi target: plugs without a PCI port and goes without the guest's help.
        case scsi
        /// A PCI device of its own (virtio-blk): seen by guests before udev runs.
        case virtio
        /// For guests without virtio drivers; from the start only.
        case sata

        /// Bytes of a serial that the guest sees; QEMU cuts the rest off.
        public var longestSerial: Int {
            switch self {
            case .scsi: 36
            // VIRTIO_BLK_ID_BYTES, and ATA's serial number.
            case .virtio, .sata: 20
            }
        }
    }

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

    /// A serial made of a name of any length and characters: the name itself where it fits, else its beginning and a hash
    /// of all of it.
    public static func serial(of name: String, on bus: Bus) -> String {
        if MachineSpec.isName(name, longest: bus.longestSerial) { return name }
        // FNV-1a, 32 bits: names differ, nobody forges them.
        let hash = name.utf8.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 }
        let digits = String(hash, radix: 16)
        let suffix = "-" + String(repeating: "0", count: 8 - digits.count) + digits
        let plain = name.unicodeScalars.map { MachineSpec.isName("a\($0)", longest: 2) ? Character($0) : "_" }
        let beginning = String(plain.prefix(bus.longestSerial - suffix.count))
        return
            (beginning.first.map { [".", "-"].contains($0) } == true ? "_" + beginning.dropFirst() : beginning.isEmpty ? "_" : beginning)
            + suffix
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
