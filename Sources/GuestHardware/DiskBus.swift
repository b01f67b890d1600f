/// How a guest sees its disks.
public enum DiskBus: String, Sendable, Codable, CaseIterable {
    /// A unit of the machine's one virtio-scsi target: plugs without a PCI port and goes without the guest's help.
    case scsi
    /// A PCI device of its own (virtio-blk): seen by guests before udev runs.
    case virtio
    /// For guests without virtio drivers; from the start only.
    case sata

    /// Bytes of a serial number that the guest sees; QEMU cuts the rest off.
    public var longestSerial: Int {
        switch self {
        // SCSI's device identification page as QEMU fills it.
        case .scsi: 36
        // VIRTIO_BLK_ID_BYTES, and ATA's serial number.
        case .virtio, .sata: 20
        }
    }

    /// A serial number of `A-Z a-z 0-9 . _ -` that the bus shows whole, made of a name of any length and characters: the name itself
    /// where it fits, else its beginning and a hash of all of it.
    public func serial(of name: String) -> String {
        if (1...longestSerial).contains(name.utf8.count), let first = name.utf8.first, Self.isFirst(first),
            name.utf8.allSatisfy(Self.isPlain)
        {
            return name
        }
        // FNV-1a, 32 bits: names differ, nobody forges them.
        let hash = name.utf8.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 }
        let digits = String(hash, radix: 16)
        let suffix = "-" + String(repeating: "0", count: 8 - digits.count) + digits
        let plain = name.unicodeScalars.map { $0.isASCII && Self.isPlain(UInt8($0.value)) ? Character($0) : "_" }
        var beginning = String(plain.prefix(longestSerial - suffix.utf8.count))
        if !(beginning.utf8.first.map(Self.isFirst) ?? false) { beginning = "_" + beginning.dropFirst() }
        return beginning + suffix
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    /// QEMU's ids begin with no dot and no dash.
    private static func isFirst(_ byte: UInt8) -> Bool { isPlain(byte) && byte != UInt8(ascii: ".") && byte != UInt8(ascii: "-") }
}
