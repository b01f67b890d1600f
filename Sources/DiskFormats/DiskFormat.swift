/// Formats of disk images that a machine can have.
public enum DiskFormat: String, Sendable, CaseIterable {
    case raw
    case qcow2
}

/// What a machine has to be told about a disk image.
public struct DiskGeometry: Sendable, Equatable {
    public var format: DiskFormat
    /// Bytes that the guest sees.
    public var virtualSize: UInt64

    public init(format: DiskFormat, virtualSize: UInt64) {
        self.format = format
        self.virtualSize = virtualSize
    }

    /// Bytes: 64 TiB, the largest disk that clouds have. A format that allows more is no reason to believe in it.
    public static let largestDisk: UInt64 = 64 << 40
    /// Bytes of a sector.
    static let sector: UInt64 = 512

    /// - Parameter format: what the file is said to be; nil: what its first bytes say.
    /// - Throws: ``DiskRefusal``; errors of reading.
    public init(of bytes: DiskBytes, saidToBe format: DiskFormat? = nil) throws {
        let signature = try ForeignFormat.signature(of: bytes)
        let isQcow = signature?.starts(with: QcowHeader.magic) == true
        switch format ?? (isQcow ? .qcow2 : .raw) {
        case .qcow2:
            guard isQcow else { throw DiskRefusal("it is no qcow2 image: its first bytes are not those of one") }
            self.init(format: .qcow2, virtualSize: try QcowTables.check(bytes))
        case .raw:
            // Said to be raw, it may begin with anything: QEMU is told as well.
            if format == nil, let foreign = try ForeignFormat.name(of: bytes) { throw DiskRefusal("it is \(foreign)") }
            try Self.check(size: bytes.count, "its size")
            self.init(format: .raw, virtualSize: bytes.count)
        }
    }

    static func check(size: UInt64, _ what: String) throws {
        guard size > 0 else { throw DiskRefusal("\(what) is 0") }
        guard size <= largestDisk else { throw DiskRefusal("\(what) of \(size) bytes is absurd: more than 64 TiB") }
        guard size % sector == 0 else { throw DiskRefusal("\(what) of \(size) bytes is no whole number of sectors of 512 bytes") }
    }
}

/// What else a file may be that is brought as a disk image. As a raw disk no machine would boot from it.
enum ForeignFormat {
    private static let known: [(offset: UInt64, bytes: [UInt8], name: String)] = [
        (0, Array("KDMV".utf8), "a VMDK image; qemu-img convert -O qcow2 makes one of it that can be used"),
        (0, Array("# Disk DescriptorFile".utf8), "the descriptor of a VMDK image; qemu-img convert -O qcow2 makes an image of it"),
        (0, Array("vhdxfile".utf8), "a VHDX image; qemu-img convert -O qcow2 makes one of it that can be used"),
        (0, Array("conectix".utf8), "a VHD image; qemu-img convert -O qcow2 makes one of it that can be used"),
        (0, Array("QED\0".utf8), "a QED image; qemu-img convert -O qcow2 makes one of it that can be used"),
        (0, Array("WithoutFreeSpace".utf8), "a Parallels image; qemu-img convert -O qcow2 makes one of it that can be used"),
        (0, Array("WithouFreSpacExt".utf8), "a Parallels image; qemu-img convert -O qcow2 makes one of it that can be used"),
        (0x40, [0x7f, 0x10, 0xda, 0xbe], "a VDI image; qemu-img convert -O qcow2 makes one of it that can be used"),
        (0, Array("LUKS".utf8) + [0xba, 0xbe], "encrypted (LUKS), which no machine here has the key for"),
        (0, [0x1f, 0x8b], "compressed (gzip): decompress it first"),
        (0, [0x28, 0xb5, 0x2f, 0xfd], "compressed (zstd): decompress it first"),
        (0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "compressed (xz): decompress it first"),
        (0, Array("BZh".utf8), "compressed (bzip2): decompress it first"),
        (0, Array("PK\u{3}\u{4}".utf8), "a zip archive: unpack it first"),
        (257, Array("ustar".utf8), "a tar archive: unpack it first"),
        (0, [0x7f] + Array("ELF".utf8), "a program (ELF)"),
    ]

    /// The first bytes; nil for a file of fewer than 4.
    static func signature(of bytes: DiskBytes) throws -> [UInt8]? {
        bytes.count >= 4 ? try bytes.read(0, 4, "signature") : nil
    }

    /// Nil for what may be a raw disk.
    static func name(of bytes: DiskBytes) throws -> String? {
        for format in known where bytes.holds(format.offset, UInt64(format.bytes.count)) {
            if try bytes.read(format.offset, format.bytes.count, "signature") == format.bytes { return format.name }
        }
        // A fixed VHD is a raw disk with a footer behind it.
        if bytes.count > DiskGeometry.sector, try bytes.read(bytes.count - DiskGeometry.sector, 8, "footer") == Array("conectix".utf8) {
            return "a VHD image; qemu-img convert -f vpc -O qcow2 makes one of it that can be used"
        }
        return nil
    }
}
