import Errors

/// The header of a qcow2 image: QEMU's docs/interop/qcow2.txt. Its fields are somebody's claims until ``init(of:)`` has returned.
struct QcowHeader: Equatable {
    static let magic: [UInt8] = Array("QFI".utf8) + [0xfb]

    var version: UInt32
    var clusterBits: UInt32
    var virtualSize: UInt64
    var l1: (offset: UInt64, entries: UInt32)
    var refcounts: (offset: UInt64, clusters: UInt32)
    var snapshots: (offset: UInt64, count: UInt32)
    /// Of clusters; libqcow knows zlib's alone.
    var isZstd: Bool
    /// L2 entries of 16 bytes, of which libqcow knows nothing.
    var hasSubclusters: Bool

    var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
    var l2EntrySize: UInt64 { hasSubclusters ? 16 : 8 }

    static func == (left: QcowHeader, right: QcowHeader) -> Bool {
        left.version == right.version && left.clusterBits == right.clusterBits && left.virtualSize == right.virtualSize
            && left.l1 == right.l1 && left.refcounts == right.refcounts && left.snapshots == right.snapshots
            && left.isZstd == right.isZstd && left.hasSubclusters == right.hasSubclusters
    }

    /// Bytes of the header of version 2, and the least of version 3's.
    private static let size2 = 72
    private static let size3 = 104

    /// Bits of `incompatible_features`.
    private enum Incompatible {
        static let dirty: UInt64 = 1 << 0
        static let corrupt: UInt64 = 1 << 1
        static let dataFile: UInt64 = 1 << 2
        static let compression: UInt64 = 1 << 3
        static let subclusters: UInt64 = 1 << 4
        static let known: UInt64 = 0x1f
    }

    /// Bit of `autoclear_features`.
    private static let rawDataFile: UInt64 = 1 << 1

    /// Reads and checks the header and its extensions; of the tables only what the header itself says.
    ///
    /// - Throws: ``DiskRefusal`` that names what is not allowed.
    init(of bytes: DiskBytes) throws {
        let size = UInt64(Self.size2)
        guard bytes.count >= size else { throw DiskRefusal("it ends within its header, after \(bytes.count) bytes") }
        let fixed = try bytes.read(0, Self.size2, "header")
        version = fixed.integer(4, UInt32.self)
        guard version == 2 || version == 3 else {
            throw DiskRefusal("it is of version \(version) of qcow; only versions 2 and 3 are supported")
        }
        clusterBits = fixed.integer(20, UInt32.self)
        virtualSize = fixed.integer(24, UInt64.self)
        l1 = (fixed.integer(40, UInt64.self), fixed.integer(36, UInt32.self))
        refcounts = (fixed.integer(48, UInt64.self), fixed.integer(56, UInt32.self))
        snapshots = (fixed.integer(64, UInt64.self), fixed.integer(60, UInt32.self))
        (isZstd, hasSubclusters) = (false, false)
        var headerLength = Self.size2
        if version == 3 { headerLength = try readVersion3(bytes) }

        // Encryption first: the name of what is below an encrypted image says less.
        let method = fixed.integer(32, UInt32.self)
        guard method == 0 else { throw DiskRefusal("it is encrypted (method \(method)), which no machine here has the key for") }
        guard (9...21).contains(clusterBits) else {
            throw DiskRefusal("its clusters of 2^\(clusterBits) bytes are not from 512 bytes to 2 MiB")
        }
        guard !hasSubclusters || clusterBits >= 14 else { throw DiskRefusal("its clusters are too small for subclusters") }
        guard headerLength <= clusterSize else { throw DiskRefusal("its header of \(headerLength) bytes exceeds a cluster") }
        let backing = (offset: fixed.integer(8, UInt64.self), length: fixed.integer(16, UInt32.self))
        guard backing.offset == 0, backing.length == 0 else { throw DiskRefusal(Self.backing(backing, bytes)) }
        try Self.checkExtensions(bytes, from: headerLength, to: Int(min(clusterSize, bytes.count)))
        try DiskGeometry.check(size: virtualSize, "its virtual size")
    }

    /// - Returns: bytes of the header.
    private mutating func readVersion3(_ bytes: DiskBytes) throws -> Int {
        guard bytes.holds(0, UInt64(Self.size3)) else { throw DiskRefusal("it ends within its header, after \(bytes.count) bytes") }
        let fields = try bytes.read(0, Self.size3, "header")
        let incompatible = fields.integer(72, UInt64.self)
        if incompatible & ~Incompatible.known != 0 {
            let bits = (0..<64).filter { incompatible & ~Incompatible.known & 1 << $0 != 0 }.map(String.init).joined(separator: ", ")
            throw DiskRefusal("it needs features that are not known here (incompatible feature bits \(bits))")
        }
        if incompatible & Incompatible.dataFile != 0 || fields.integer(88, UInt64.self) & Self.rawDataFile != 0 {
            throw DiskRefusal("its data is in an external data file")
        }
        if incompatible & Incompatible.corrupt != 0 { throw DiskRefusal("it is marked as corrupt; qemu-img check -r all may repair it") }
        if incompatible & Incompatible.dirty != 0 {
            throw DiskRefusal("it was not closed (marked as dirty); qemu-img check -r all repairs it")
        }
        let order = fields.integer(96, UInt32.self)
        guard order <= 6 else { throw DiskRefusal("its refcount order of \(order) is more than 6") }
        let length = fields.integer(100, UInt32.self)
        guard length >= Self.size3, length % 8 == 0, length <= 2 << 20 else {
            throw DiskRefusal("its header length of \(length) bytes is none that can be")
        }
        guard bytes.holds(0, UInt64(length)) else { throw DiskRefusal("it ends within its header of \(length) bytes") }
        let compression = length > Self.size3 ? try bytes.read(UInt64(Self.size3), 1, "header")[0] : 0
        guard compression <= 1 else { throw DiskRefusal("its clusters are compressed by a method that is not known here (\(compression))") }
        guard (compression == 1) == (incompatible & Incompatible.compression != 0) else {
            throw DiskRefusal("its compression type and the feature bit for it contradict each other")
        }
        isZstd = compression == 1
        hasSubclusters = incompatible & Incompatible.subclusters != 0
        return Int(length)
    }

    private static func backing(_ backing: (offset: UInt64, length: UInt32), _ bytes: DiskBytes) -> String {
        // QEMU's own bound of the name, in bytes.
        guard backing.length <= 1023, let name = try? bytes.read(backing.offset, Int(backing.length), "name") else {
            return "it has a backing file, whose name is outside of the file or too long"
        }
        return "it has a backing file, \(quoted(String(decoding: name, as: UTF8.self))); qemu-img convert makes an image of both"
    }

    private enum Extension {
        static let end: UInt32 = 0
        static let backingFormat: UInt32 = 0xe279_2aca
        static let dataFile: UInt32 = 0x4441_5441
        static let encryption: UInt32 = 0x0537_be77
        static let bitmaps: UInt32 = 0x2385_2875
    }

    private static func checkExtensions(_ bytes: DiskBytes, from start: Int, to end: Int) throws {
        var offset = start
        // The end of the area ends the list as well.
        while offset + 8 <= end {
            let head = try bytes.read(UInt64(offset), 8, "header extension")
            let (type, length) = (head.integer(0, UInt32.self), head.integer(4, UInt32.self))
            offset += 8
            // Of the one that ends the list as well, as for QEMU.
            guard Int(length) <= end - offset else {
                throw DiskRefusal("a header extension of \(length) bytes is outside of the first cluster")
            }
            switch type {
            case Extension.end: return
            case Extension.dataFile: throw DiskRefusal("it names an external data file")
            case Extension.encryption: throw DiskRefusal("it is encrypted (LUKS), which no machine here has the key for")
            case Extension.bitmaps: throw DiskRefusal("it has bitmaps of its changes; qemu-img convert makes an image without them")
            // QEMU's own bound of a format's name.
            case Extension.backingFormat where length >= 16: throw DiskRefusal("the format of a backing file takes \(length) bytes")
            default: break
            }
            offset += (Int(length) + 7) & ~7
        }
    }
}
