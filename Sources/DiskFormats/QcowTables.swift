/// The tables of a qcow2 image: all that leads from one place in the file to another is followed once.
///
/// QEMU checks each reference when it comes to it, in the middle of a guest's reads; here an image is refused before it has a guest.
struct QcowTables {
    private let bytes: DiskBytes
    private let header: QcowHeader
    /// Where tables are that nothing else may be in.
    private var taken: [Range<UInt64>] = []

    /// QEMU's own bounds: bytes of an L1 table, and of a refcount table.
    private static let largestL1: UInt64 = 32 << 20
    private static let largestRefcounts: UInt64 = 8 << 20
    /// QEMU's own bound.
    private static let mostSnapshots: UInt32 = 65536
    /// Bytes; no tool writes as much about a snapshot.
    private static let largestSnapshotTable: UInt64 = 64 << 20
    private static let largestSnapshotExtra: UInt32 = 1024

    /// Bits of table entries.
    private static let offsetMask: UInt64 = 0x00ff_ffff_ffff_fe00
    private static let isCompressed: UInt64 = 1 << 62
    /// The copied bit, which says what refcounts say as well.
    private static let copied: UInt64 = 1 << 63

    /// - Returns: the virtual size.
    /// - Throws: ``DiskRefusal``; errors of reading.
    static func check(_ bytes: DiskBytes) throws -> UInt64 {
        var tables = QcowTables(bytes: bytes, header: try QcowHeader(of: bytes))
        try tables.check()
        return tables.header.virtualSize
    }

    private init(bytes: DiskBytes, header: QcowHeader) {
        self.bytes = bytes
        self.header = header
        taken = [0..<header.clusterSize]
    }

    private mutating func check() throws {
        try checkRefcounts()
        try checkSnapshots()
        let l2Tables = try l2Tables()
        for table in l2Tables { try checkL2(table) }
    }

    // MARK: Places

    /// Takes a place in the file for a table.
    private mutating func take(_ offset: UInt64, _ length: UInt64, _ what: String) throws {
        guard offset % header.clusterSize == 0 else { throw DiskRefusal("its \(what) at \(offset) is not at a cluster's start") }
        guard bytes.holds(offset, length) else { throw DiskRefusal("its \(what) at \(offset) is outside of the file") }
        let place = offset..<(offset + length)
        guard !isTaken(place) else { throw DiskRefusal("its \(what) at \(offset) is where another table or the header is") }
        taken.append(place)
    }

    private func isTaken(_ place: Range<UInt64>) -> Bool { taken.contains { $0.overlaps(place) } }

    // MARK: Refcounts and snapshots

    private mutating func checkRefcounts() throws {
        let length = UInt64(header.refcounts.clusters) * header.clusterSize
        guard length > 0, length <= Self.largestRefcounts else {
            throw DiskRefusal("its refcount table of \(header.refcounts.clusters) clusters is not from 1 cluster to 8 MiB")
        }
        try take(header.refcounts.offset, length, "refcount table")
        let table = try bytes.read(header.refcounts.offset, Int(length), "refcount table")
        for index in 0..<(table.count / 8) {
            let block = table.integer(index * 8, UInt64.self)
            guard block != 0 else { continue }
            guard block % header.clusterSize == 0 else { throw DiskRefusal("its refcount block at \(block) is not at a cluster's start") }
            guard bytes.holds(block, header.clusterSize) else {
                throw DiskRefusal("its refcount block at \(block) is outside of the file")
            }
        }
    }

    private mutating func checkSnapshots() throws {
        let (count, start) = (header.snapshots.count, header.snapshots.offset)
        // QEMU looks at the place of no snapshots as well.
        guard start % header.clusterSize == 0, start <= Int64.max else {
            throw DiskRefusal("its snapshot table at \(start) is not at a cluster's start, or where no file reaches")
        }
        guard count > 0 else { return }
        guard count <= Self.mostSnapshots else {
            throw DiskRefusal("its \(count) snapshots are more than the \(Self.mostSnapshots) that can be")
        }
        var (offset, end) = (start, start)
        for _ in 0..<count {
            let head = try bytes.read(offset, 40, "snapshot table")
            let extra = head.integer(36, UInt32.self)
            guard extra <= Self.largestSnapshotExtra else { throw DiskRefusal("a snapshot of it has \(extra) bytes of extra data") }
            let l1 = (offset: head.integer(0, UInt64.self), length: UInt64(head.integer(8, UInt32.self)) * 8)
            guard l1.length <= Self.largestL1, l1.offset % header.clusterSize == 0, bytes.holds(l1.offset, l1.length) else {
                throw DiskRefusal("a snapshot's L1 table at \(l1.offset) is outside of the file or too large")
            }
            let names = UInt64(head.integer(12, UInt16.self)) + UInt64(head.integer(14, UInt16.self))
            let length = 40 + UInt64(extra) + names
            guard bytes.holds(offset, length), offset + length - start <= Self.largestSnapshotTable else {
                throw DiskRefusal("its snapshot table is outside of the file or too large")
            }
            end = offset + length
            offset = (end + 7) & ~7
        }
        try take(start, end - start, "snapshot table")
    }

    // MARK: L1 and L2

    /// Where the L2 tables are, in the order of the file.
    private mutating func l2Tables() throws -> [UInt64] {
        let length = UInt64(header.l1.entries) * 8
        guard length <= Self.largestL1 else { throw DiskRefusal("its L1 table of \(header.l1.entries) entries exceeds 32 MiB") }
        let span = header.clusterSize * (header.clusterSize / header.l2EntrySize)
        let needed = (header.virtualSize + span - 1) / span
        guard UInt64(header.l1.entries) >= needed else {
            throw DiskRefusal("its L1 table of \(header.l1.entries) entries is too small for its virtual size, which takes \(needed)")
        }
        try take(header.l1.offset, length, "L1 table")
        let table = try bytes.read(header.l1.offset, Int(length), "L1 table")
        var found: [UInt64] = []
        for index in 0..<(table.count / 8) {
            let entry = table.integer(index * 8, UInt64.self)
            guard entry & ~(Self.offsetMask | Self.copied) == 0 else {
                throw DiskRefusal("its L1 entry \(index) has bits that mean nothing")
            }
            let offset = entry & Self.offsetMask
            guard offset != 0 else { continue }
            guard offset % header.clusterSize == 0 else { throw DiskRefusal("its L2 table at \(offset) is not at a cluster's start") }
            guard bytes.holds(offset, header.clusterSize) else { throw DiskRefusal("its L2 table at \(offset) is outside of the file") }
            guard !isTaken(offset..<(offset + header.clusterSize)) else {
                throw DiskRefusal("its L2 table at \(offset) is where another table or the header is")
            }
            found.append(offset)
        }
        found.sort()
        for index in found.indices.dropFirst() where found[index] == found[index - 1] {
            throw DiskRefusal("its L1 table names the L2 table at \(found[index]) twice")
        }
        return found
    }

    private func checkL2(_ table: UInt64) throws {
        let entries = try bytes.read(table, Int(header.clusterSize), "L2 table")
        let stride = Int(header.l2EntrySize)
        // Of a compressed cluster, the bits below these are its place: docs/interop/qcow2.txt, "Compressed Clusters Descriptor".
        let compressedOffset: UInt64 = 1 << UInt64(62 - (header.clusterBits - 8)) - 1
        // Bit 0 says "all zeros", but in version 2, and in entries with subclusters, which say it in another way.
        let allowed = Self.offsetMask | Self.copied | (header.version == 3 && !header.hasSubclusters ? 1 : 0)
        try entries.withUnsafeBytes { buffer in
            for at in Swift.stride(from: 0, to: buffer.count, by: stride) {
                let entry = UInt64(bigEndian: buffer.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                guard entry != 0 else { continue }
                if entry & Self.isCompressed != 0 {
                    let offset = entry & compressedOffset
                    guard offset < bytes.count else { throw DiskRefusal("its compressed cluster at \(offset) is outside of the file") }
                    continue
                }
                guard entry & ~allowed == 0 else { throw DiskRefusal("an entry of its L2 table at \(table) has bits that mean nothing") }
                let offset = entry & Self.offsetMask
                guard offset != 0 else { continue }
                guard offset % header.clusterSize == 0 else {
                    throw DiskRefusal("its data cluster at \(offset) is not at a cluster's start")
                }
                // The last one may end within the cluster.
                guard offset < bytes.count else { throw DiskRefusal("its data cluster at \(offset) is outside of the file") }
                guard !isTaken(offset..<(offset + header.clusterSize)) else {
                    throw DiskRefusal("its data cluster at \(offset) is where a table or the header is")
                }
            }
        }
    }
}
