/// An image that nobody may have as a disk, and a word of the reason.
public struct HostileDisk: Sendable {
    public var name: String
    public var bytes: [UInt8]
    public var reason: String

    private init(_ name: String, _ reason: String, _ change: (inout QcowBuilder) -> Void) {
        self.init(name, reason, QcowBuilder().with(change).built())
    }

    private init(_ name: String, _ reason: String, _ bytes: [UInt8]) { (self.name, self.bytes, self.reason) = (name, bytes, reason) }

    public static let all: [HostileDisk] = headers + features + names + tables + foreign

    private static let headers = [
        HostileDisk("version 1", "version 1 of qcow") { $0.version = 1 },
        HostileDisk("version 4", "version 4 of qcow") { $0.version = 4 },
        HostileDisk("clusters of 1 byte", "clusters of 2^0") { $0.clusterBits = 0 },
        HostileDisk("clusters of 1 GiB", "clusters of 2^30") { $0.clusterBits = 30 },
        HostileDisk("clusters of 2^63 bytes", "clusters of 2^63") { $0.clusterBits = 63 },
        HostileDisk("clusters of 2^32-1", "clusters of 2^4294967295") { $0.clusterBits = .max },
        HostileDisk("2^60 bytes", "absurd") { $0.size = 1 << 60 },
        HostileDisk("2^63 bytes", "absurd") { $0.size = 1 << 63 },
        HostileDisk("no byte", "virtual size is 0") { $0.size = 0 },
        HostileDisk("half a sector", "no whole number of sectors") { $0.size = 1 << 20 + 256 },
        HostileDisk("cut at 20", "it ends within its header") { $0.length = 20 },
        HostileDisk("cut at 72", "it ends within its header") { $0.length = 72 },
        HostileDisk("header of 2 GiB", "header length") { $0.headerLength = 0x7fff_ffff },
        HostileDisk("header of 2 MiB", "it ends within its header of") { $0.headerLength = 2 << 20 },
        HostileDisk("header of 80 bytes", "header length") { $0.headerLength = 80 },
        HostileDisk("header of more than a cluster", "exceeds a cluster") { ($0.headerLength, $0.clusterBits) = (1024, 9) },
    ]

    private static let features = [
        HostileDisk("dirty", "marked as dirty") { $0.incompatible = 1 },
        HostileDisk("corrupt", "marked as corrupt") { $0.incompatible = 2 },
        HostileDisk("unknown feature", "incompatible feature bits 40") { $0.incompatible = 1 << 40 },
        HostileDisk("unknown features", "incompatible feature bits 5, 63") { $0.incompatible = 1 << 63 | 1 << 5 },
        HostileDisk("AES", "encrypted (method 1)") { $0.encryption = 1 },
        HostileDisk("LUKS", "encrypted (method 2)") { $0.encryption = 2 },
        HostileDisk("method 99", "encrypted (method 99)") { $0.encryption = 99 },
        HostileDisk("LUKS header alone", "encrypted (LUKS)") {
            $0.extensions = QcowBuilder.header(extension: 0x0537_be77, [UInt8](repeating: 0, count: 16))
        },
        HostileDisk("compression without its bit", "contradict") { ($0.headerLength, $0.compression) = (112, 1) },
        HostileDisk("compression bit alone", "contradict") { $0.incompatible = 8 },
        HostileDisk("compression 7", "method that is not known here (7)") {
            ($0.incompatible, $0.headerLength, $0.compression) = (8, 112, 7)
        },
        HostileDisk("subclusters of 128 bytes", "too small for subclusters") { ($0.incompatible, $0.clusterBits) = (16, 12) },
        HostileDisk("refcount order", "refcount order of 63") { $0.refcountOrder = 63 },
        HostileDisk("bitmaps", "bitmaps") {
            $0.extensions = QcowBuilder.header(extension: 0x2385_2875, [UInt8](repeating: 0, count: 24))
        },
    ]

    private static let names = [
        HostileDisk("backing file", "it has a backing file, \"/etc/passwd\"") {
            ($0.backing, $0.texts) = ((200, 11), [(200, "/etc/passwd")])
        },
        HostileDisk("backing file with its format", "it has a backing file, \"/etc/passwd\"") {
            ($0.backing, $0.texts) = ((200, 11), [(200, "/etc/passwd")])
            $0.extensions = QcowBuilder.header(extension: 0xe279_2aca, Array("raw".utf8))
        },
        HostileDisk("backing JSON", "it has a backing file, \"json:{") {
            ($0.backing, $0.texts) = ((200, 46), [(200, #"json:{"driver":"file","filename":"/etc/passwd"}"#)])
        },
        HostileDisk("backing name of 4 GiB", "it has a backing file") { $0.backing = (200, 0xffff_fff0) },
        HostileDisk("backing name far away", "it has a backing file") { $0.backing = (1 << 62, 16) },
        HostileDisk("backing name that forges lines", "\"a?[31mb?c\"") { ($0.backing, $0.texts) = ((200, 9), [(200, "a\u{1b}[31mb\nc")]) },
        HostileDisk("data file", "external data file") {
            $0.incompatible = 4
            $0.extensions = QcowBuilder.header(extension: 0x4441_5441, Array("/etc/passwd".utf8))
        },
        HostileDisk("data file's name alone", "external data file") {
            $0.extensions = QcowBuilder.header(extension: 0x4441_5441, Array("/etc/passwd".utf8))
        },
        HostileDisk("raw data file", "external data file") { $0.autoclear = 2 },
        HostileDisk("end of extensions with 4 GiB", "header extension of 4294967295 bytes") {
            $0.extensions = QcowBuilder.header(extension: 0, [], announcing: .max)
        },
        HostileDisk("extension of 4 GiB", "header extension of 4294967295 bytes") {
            $0.extensions = QcowBuilder.header(extension: 0x6803_f857, [], announcing: .max)
        },
    ]

    private static let tables = [
        HostileDisk("L1 of 2^32-1 entries", "exceeds 32 MiB") { $0.l1.entries = .max },
        HostileDisk("L1 of 32 Mi entries", "exceeds 32 MiB") { $0.l1.entries = 32 << 20 },
        HostileDisk("L1 too small", "too small for its virtual size") { ($0.size, $0.l1.entries) = (1 << 40, 1) },
        HostileDisk("L1 far away", "L1 table at 1099511627776 is outside") { $0.l1.offset = 1 << 40 },
        HostileDisk("L1 beyond 2^63", "L1 table") { $0.l1.offset = .max << 16 },
        HostileDisk("L1 between clusters", "not at a cluster's start") { $0.l1.offset = 0x30008 },
        HostileDisk("L1 in the header", "where another table or the header is") { $0.l1.offset = 0 },
        HostileDisk("L1 is the refcount table", "where another table or the header is") { $0.l1.offset = 0x10000 },
        HostileDisk("L1 names itself", "where another table or the header is") { $0.words = [(0x30000, 0x30000 | 1 << 63)] },
        HostileDisk("L1 names the header", "where another table or the header is") { $0.words = [(0x30000, 0x10000 | 1 << 63)] },
        HostileDisk("L1 names an L2 table twice", "twice") { $0.words = [(0x30000, 0x20000 | 1 << 63), (0x30008, 0x20000)] },
        HostileDisk("L1 entry with strange bits", "bits that mean nothing") { $0.words = [(0x30000, 0x20000 | 1 << 60)] },
        HostileDisk("L2 far away", "L2 table at 2251799813619712 is outside") { $0.words = [(0x30000, 0x7_ffff_ffff_0000 | 1 << 63)] },
        HostileDisk("data far away", "data cluster at 1099511627776 is outside") {
            $0.words = [(0x30000, 0x20000 | 1 << 63), (0x20000, 1 << 40)]
        },
        HostileDisk("data in the L1 table", "data cluster at 196608 is where") {
            $0.words = [(0x30000, 0x20000 | 1 << 63), (0x20000, 0x30000)]
        },
        HostileDisk("data between clusters", "not at a cluster's start") {
            $0.words = [(0x30000, 0x20000 | 1 << 63), (0x20000, 0x20200)]
        },
        HostileDisk("L2 entry with strange bits", "bits that mean nothing") {
            $0.words = [(0x30000, 0x20000 | 1 << 63), (0x20000, 1 << 61)]
        },
        HostileDisk("compressed data far away", "compressed cluster at 1099511627776 is outside") {
            $0.words = [(0x30000, 0x20000 | 1 << 63), (0x20000, 1 << 62 | 1 << 40)]
        },
        HostileDisk("refcount table of 2^32-1 clusters", "refcount table of 4294967295 clusters") { $0.refcounts.clusters = .max },
        HostileDisk("no refcount table", "refcount table of 0 clusters") { $0.refcounts.clusters = 0 },
        HostileDisk("refcount table far away", "refcount table at 72057594037927936") { $0.refcounts.offset = 1 << 56 },
        HostileDisk("refcount block far away", "refcount block at") { $0.words = [(0x10000, 1 << 50)] },
        HostileDisk("no snapshots at an odd place", "snapshot table at 131080 is not at a cluster's start") { $0.snapshots = (0, 0x20008) },
        HostileDisk("no snapshots where no file reaches", "where no file reaches") { $0.snapshots = (0, 1 << 63) },
        HostileDisk("10^9 snapshots", "1000000000 snapshots") { $0.snapshots = (1_000_000_000, 0x30000) },
        HostileDisk("snapshots far away", "snapshot table is outside") { $0.snapshots = (5, 1 << 62) },
        HostileDisk("snapshots in the L1 table", "where another table") {
            ($0.snapshots, $0.words) = ((1, 0x30000), [(0x30000, 0), (0x30008, 0)])
        },
        HostileDisk("snapshot's L1 far away", "snapshot's L1 table at") {
            ($0.snapshots, $0.words) = ((1, 0x20000), [(0x20000, 1 << 50), (0x20008, 16 << 32)])
        },
        HostileDisk("snapshot with 4 GiB beside it", "extra data") {
            ($0.snapshots, $0.words) = ((1, 0x20000), [(0x20000, 0), (0x20008, 0), (0x20010, 0), (0x20018, 0), (0x20020, 0xffff_ffff)])
        },
    ]

    private static func raw(_ start: [UInt8], at offset: Int = 0) -> [UInt8] {
        [UInt8](repeating: 0, count: offset) + start + [UInt8](repeating: 0, count: 65536 - start.count - offset)
    }

    private static let foreign = [
        HostileDisk("nothing", "its size is 0", []),
        HostileDisk("a page of the web", "no whole number of sectors", Array("<html>404 Not Found</html>\n".utf8)),
        HostileDisk("VMDK", "a VMDK image", raw(Array("KDMV".utf8))),
        HostileDisk("VMDK descriptor", "descriptor of a VMDK", raw(Array("# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\"".utf8))),
        HostileDisk("VHDX", "a VHDX image", raw(Array("vhdxfile".utf8))),
        HostileDisk("VHD", "a VHD image", raw(Array("conectix".utf8), at: 65024)),
        HostileDisk("VDI", "a VDI image", raw([0x7f, 0x10, 0xda, 0xbe], at: 0x40)),
        HostileDisk("LUKS disk", "encrypted (LUKS)", raw(Array("LUKS".utf8) + [0xba, 0xbe])),
        HostileDisk("xz", "compressed (xz)", raw([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])),
        HostileDisk("tar", "a tar archive", raw(Array("ustar".utf8), at: 257)),
        HostileDisk("program", "a program", raw([0x7f, 0x45, 0x4c, 0x46])),
    ]
}
