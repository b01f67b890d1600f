import Errors
import Runtime

/// A disk in a container image, as KubeVirt's containerDisk has it: `FROM scratch`, and one file in /disk.
///
/// KubeVirt is told that an image is a disk, a CRI is not. So an image that has other files as well, or a command, is a container's, and one
/// whose /disk holds nothing that looks like a disk by its name (.qcow2, .img, .raw) or its first bytes (qcow2's, a boot sector's) is data:
/// for volumes. Where something does look like a disk it has to be a right one.
struct ContainerDisk {
    private static let directory = Array("disk".utf8)
    /// Members of all layers together; more are no disk, and their trees are not read for it.
    private static let mostEntries: Int64 = 64

    let reader: ErofsReader
    let node: LayerNode

    /// Whether it is worth looking.
    ///
    /// - Parameter entries: members of the image's layers.
    static func isPossible(_ config: ImageConfig, entries: Int64) -> Bool {
        config.entrypoint.isEmpty && config.cmd.isEmpty && entries > 0 && entries <= mostEntries
    }

    /// The disk of an image; nil for a container's. Blocks.
    ///
    /// - Parameter layers: disk images of the layers, lowest first.
    /// - Throws: `SwiftletError(.invalidArgument)` for an image that has nothing but /disk and is not right.
    init?(in layers: [String], limits: LayerLimits) throws {
        let readers = try layers.map { try ErofsReader($0) }
        var budget = LayerBudget(limits)
        var stack = LayerStack(limits: limits)
        for (number, reader) in readers.enumerated() {
            try stack.add(try reader.tree(&budget), number: number, marks: reader.marks)
        }
        let files = Self.files(below: stack.root, at: [])
        guard !files.isEmpty, files.allSatisfy({ $0.path.first == Self.directory }),
            try files.contains(where: { try Self.looksLikeDisk($0.path, $0.node, readers) })
        else { return nil }
        let names = files.prefix(5).map { quoted(String(decoding: Array($0.path.dropFirst().joined(separator: [0x2F])), as: UTF8.self)) }
        guard files.count == 1, let file = files.first else {
            throw SwiftletError(
                .invalidArgument, "its /disk holds \(files.count) files (\(names.joined(separator: ", "))); a containerDisk has one")
        }
        guard file.path.count == 2 else {
            throw SwiftletError(.invalidArgument, "the disk \(names[0]) is not in /disk itself, but in a directory below it")
        }
        guard case .file = file.node.source.content else {
            throw SwiftletError(.invalidArgument, "\(names[0]) in its /disk is a link or a device; a containerDisk has a file there")
        }
        (reader, node) = (readers[file.node.layer], file.node.source)
    }

    /// All but directories.
    private static func files(below directory: MergedNode, at path: [[UInt8]]) -> [(path: [[UInt8]], node: MergedNode)] {
        directory.sortedChildren.flatMap { name, node -> [(path: [[UInt8]], node: MergedNode)] in
            node.isDirectory ? files(below: node, at: path + [name]) : [(path + [name], node)]
        }
    }

    private static func looksLikeDisk(_ path: [[UInt8]], _ node: MergedNode, _ readers: [ErofsReader]) throws -> Bool {
        if let name = path.last, DiskFileName(String(decoding: name, as: UTF8.self)).isDisk { return true }
        guard case .file = node.source.content else { return false }
        let head = try head(of: node.source, readers[node.layer])
        return head.starts(with: Array("QFI".utf8) + [0xfb]) || head.count == sector && head.suffix(2).elementsEqual([0x55, 0xAA])
    }

    /// Bytes of a sector: a boot sector's last two are 55h and AAh.
    private static let sector = 512

    private struct Enough: Error {}

    /// The first sector of a file, or what there is of it.
    private static func head(of node: LayerNode, _ reader: ErofsReader) throws -> [UInt8] {
        var head: [UInt8] = []
        do {
            try reader.data(of: node) { piece in
                switch piece {
                case .bytes(let bytes): head += bytes.prefix(sector - head.count)
                case .zeros(let count): head += [UInt8](repeating: 0, count: min(sector - head.count, Int(clamping: count)))
                }
                if head.count >= sector { throw Enough() }
            }
        } catch is Enough {}
        return head
    }

    /// Copies the disk to a new file.
    func write(to path: String, limits: LayerLimits, isCancelled: @escaping @Sendable () -> Bool) throws -> DiskFile {
        let zeros = [UInt8](repeating: 0, count: 1 << 16)
        return try DiskFile.write(to: path, limits: limits, isCancelled: isCancelled) { body in
            try reader.data(of: node) { piece in
                switch piece {
                case .bytes(let bytes): try body(bytes)
                case .zeros(var count):
                    while count > 0 {
                        let now = Int(min(count, UInt64(zeros.count)))
                        try zeros.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[..<now])) }
                        count -= UInt64(now)
                    }
                }
            }
        }
    }
}
