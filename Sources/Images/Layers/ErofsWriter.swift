import Errors
import Foundation

/// Writes an uncompressed EROFS image in one pass: file data as it comes, then inodes and directories.
///
/// Format: Linux Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h. Only features of Linux 5.4 are used, so that any
/// guest kernel can mount it. Nothing is compressed: guests may be emulated, where decompression costs more than reading.
/// Blocking; belongs to one thread.
final class ErofsWriter {
    static let blockSize = 4096
    /// Memory for tails kept until the inodes are written, bytes. Beyond it tails take a block of their own.
    private static let tailBudget = 8 << 20

    private let file: SparseFile
    private var nextBlock: UInt32 = 1
    private var tailBytes = 0
    private var marks: LayerMarks = []

    /// - Parameter file: empty; the image grows in it from offset 0.
    init(_ file: SparseFile) throws {
        self.file = file
        try file.append(zeros: UInt64(Self.blockSize))
    }

    /// Stores the data that `read` delivers. `size` must be exactly what comes.
    ///
    /// - Parameter xattrs: the file's extended attributes, which share the inode's block with the tail.
    func store(
        size: UInt64, xattrs: [ExtendedAttribute], read: ((DataPiece) throws -> Void) throws -> Void
    ) throws -> FileExtent {
        var extent = FileExtent(size: size, firstBlock: nextBlock, tail: [])
        let tailSize = Int(size % UInt64(Self.blockSize))
        let head = ErofsInode.size + ErofsXattrs.size(xattrs)
        let keepsTail =
            tailSize > 0 && tailSize <= Self.blockSize / 2 && head + tailSize <= Self.blockSize && tailBytes + tailSize <= Self.tailBudget
        var toFile = keepsTail ? size - UInt64(tailSize) : size
        try read { piece in
            switch piece {
            case .bytes(let bytes):
                let count = Int(min(toFile, UInt64(bytes.count)))
                try file.append(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
                toFile -= UInt64(count)
                extent.tail.append(contentsOf: bytes[count...])
            case .zeros(let zeros):
                let count = min(toFile, zeros)
                try file.append(zeros: count)
                toFile -= count
                extent.tail.append(contentsOf: [UInt8](repeating: 0, count: Int(zeros - count)))
            }
        }
        tailBytes += extent.tail.count
        try pad()
        return extent
    }

    /// Writes the tree and the superblock. The image is complete afterwards, but not synced.
    ///
    /// - Returns: the image's size in bytes, a multiple of 4096.
    func finish(root: LayerNode) throws -> UInt64 {
        let metadataBlock = nextBlock
        let (nodes, parents) = place(root)
        for (node, parent) in zip(nodes, parents) { try write(node, parent, metadataStart: UInt64(metadataBlock) * 4096) }
        try pad()
        // Directory blocks too large to sit beside their inode follow in the order their numbers were given out.
        for (node, parent) in zip(nodes, parents) { try writeOverflow(of: node, parent) }
        try writeSuperblock(metadataBlock: metadataBlock, inodes: nodes.count)
        try file.flush()
        return UInt64(nextBlock) * UInt64(Self.blockSize)
    }

    // MARK: Layout

    /// Gives every node its place in the metadata area, the root first, breadth first. Returns the nodes and the parent of each.
    ///
    /// A directory is sorted here and again when it is written: the sorted form of all directories takes more memory than the tree.
    private func place(_ root: LayerNode) -> (nodes: [LayerNode], parents: [LayerNode]) {
        var nodes = [root]
        root.isPlaced = true
        var parents: [LayerNode] = [root]
        var index = 0
        while index < nodes.count {
            switch nodes[index].content {
            case .directory(let children):
                let directory = ErofsDirectory(children: children, node: nodes[index], parent: parents[index])
                nodes[index].dataSize = directory.size
                for (_, child) in directory.sortedChildren where !child.isPlaced {
                    child.isPlaced = true
                    nodes.append(child)
                    parents.append(nodes[index])
                }
            case .symlink(let target): nodes[index].dataSize = target.count
            default: break
            }
            index += 1
        }
        var position: UInt64 = 0
        let blockSize = UInt64(Self.blockSize)
        for (number, node) in nodes.enumerated() {
            node.number = UInt32(number + 1)
            if node.isImplied { marks.insert(number == 0 ? .impliedRoot : .impliedDirectories) }
            if node.linkPath != nil { marks.insert(.foreignLinks) }
            let head = UInt64(ErofsInode.size + ErofsXattrs.size(node))
            let inline = UInt64(inlineSize(node))
            let inBlock = position % blockSize
            // Neither an inode nor what is stored beside it may cross a block.
            let crosses = inline > 0 ? inBlock + head + inline > blockSize : inBlock + UInt64(ErofsInode.size) > blockSize
            if crosses { position += blockSize - inBlock }
            node.position = position
            position = (position + head + inline + 31) & ~31
        }
        nextBlock += UInt32((position + blockSize - 1) / blockSize)
        for node in nodes where inlineSize(node) == 0 && node.dataSize > 0 {
            node.overflowBlock = nextBlock
            nextBlock += UInt32((node.dataSize + Self.blockSize - 1) / Self.blockSize)
        }
        return (nodes, parents)
    }

    /// Bytes stored directly after the inode.
    private func inlineSize(_ node: LayerNode) -> Int {
        let size: Int
        if case .file(let extent) = node.content { size = extent.tail.count } else { size = node.dataSize }
        return ErofsInode.size + ErofsXattrs.size(node) + size <= Self.blockSize ? size : 0
    }

    // MARK: Writing

    private func write(_ node: LayerNode, _ parent: LayerNode, metadataStart: UInt64) throws {
        try file.append(zeros: metadataStart + node.position - file.size)
        let inline = inlineSize(node)
        var inode = ErofsInode(node)
        inode.isInline = inline > 0
        switch node.content {
        case .directory, .symlink:
            inode.size64 = UInt64(node.dataSize)
            inode.union = node.overflowBlock
        case .file(let extent):
            inode.size64 = extent.size
            inode.union = extent.firstBlock
        case .device(_, let major, let minor):
            // new_encode_dev() of the kernel.
            inode.union = (minor & 0xff) | (major & 0xfff) << 8 | (minor & ~0xff) << 12
        case .fifo: break
        }
        var bytes = LittleEndianBytes()
        inode.write(to: &bytes)
        ErofsXattrs.write(node, to: &bytes)
        if inline > 0 {
            switch node.content {
            case .file(let extent): bytes.append(extent.tail)
            default: bytes.append(overflow(of: node, parent))
            }
        }
        try bytes.storage.withUnsafeBytes(file.append)
    }

    private func overflow(of node: LayerNode, _ parent: LayerNode) -> [UInt8] {
        switch node.content {
        case .directory(let children): ErofsDirectory(children: children, node: node, parent: parent).bytes()
        case .symlink(let target): target
        default: []
        }
    }

    private func writeOverflow(of node: LayerNode, _ parent: LayerNode) throws {
        guard node.overflowBlock != 0 else { return }
        try overflow(of: node, parent).withUnsafeBytes(file.append)
        try file.append(zeros: (4096 - file.size % 4096) % 4096)
    }

    private func writeSuperblock(metadataBlock: UInt32, inodes: Int) throws {
        var bytes = LittleEndianBytes()
        bytes.append(UInt32(0xE0F5_E1E2))  // magic
        bytes.append(UInt32(0))  // checksum, unused without its feature bit
        bytes.append(UInt32(0x2))  // compatible features: MTIME
        bytes.append(UInt8(12))  // block size 2^12
        bytes.append(UInt8(0))
        bytes.append(UInt16(0))  // root inode: the first in the metadata area
        bytes.append(UInt64(inodes))
        bytes.append(UInt64(0))  // build time: none, so that equal layers give equal images
        bytes.append(UInt32(0))
        bytes.append(nextBlock)
        bytes.append(metadataBlock)
        bytes.append(UInt32(0))  // no shared extended attributes
        bytes.append([UInt8](repeating: 0, count: LayerMarks.offset - bytes.storage.count))
        bytes.append(marks.volumeName)
        bytes.append([UInt8](repeating: 0, count: 128 - bytes.storage.count))
        try bytes.storage.withUnsafeBytes { try file.overwrite($0, at: 1024) }
    }

    /// Fills the last block with zeros and remembers where the next begins.
    private func pad() throws {
        try file.append(zeros: (4096 - file.size % 4096) % 4096)
        guard let next = UInt32(exactly: file.size / 4096) else {
            throw SwiftletError(.resourceExhausted, "disk image: larger than the 16 TiB that EROFS can address")
        }
        nextBlock = max(nextBlock, next)
    }
}
