import Errors
import Foundation

/// Reads a layer's disk image that `ErofsWriter` wrote: its tree, and the data of its files. Blocking; belongs to one thread.
final class ErofsReader {
    /// The file in memory: what is not looked at is not read.
    private let bytes: UnsafeRawBufferPointer
    private let path: String
    private let metadata: Int
    let marks: LayerMarks

    private struct Inode {
        var at: Int
        var format: UInt16
        var mode: UInt16
        var size: Int
        var union: UInt32
        var xattrBytes: Int
        var links: UInt32

        var isInline: Bool { format >> 1 & 7 == 2 }
        var afterInode: Int { at + ErofsInode.size + xattrBytes }
    }

    init(_ path: String) throws {
        self.path = path
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SwiftletError.system("open layer \(path)") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("look at layer \(path)") }
        guard status.st_size >= ErofsWriter.blockSize else {
            throw SwiftletError(.dataLoss, "layer \(path): it is no disk image of a layer")
        }
        guard let start = mmap(nil, status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
            throw SwiftletError.system("map layer \(path)")
        }
        bytes = UnsafeRawBufferPointer(start: start, count: status.st_size)
        metadata = Int(bytes.loadUnaligned(fromByteOffset: 1024 + 40, as: UInt32.self).littleEndian) * ErofsWriter.blockSize
        marks = LayerMarks(volumeName: bytes[(1024 + LayerMarks.offset)..<(1024 + LayerMarks.offset + 16)])
        guard bytes.loadUnaligned(fromByteOffset: 1024, as: UInt32.self).littleEndian == 0xE0F5_E1E2 else {
            throw SwiftletError(.dataLoss, "layer \(path): it is no disk image of a layer")
        }
    }

    deinit {
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    }

    /// The root directory without what is in it.
    func root() throws -> LayerNode { try node(inode(0)).node }

    /// All of the layer.
    ///
    /// - Parameter budget: counts every name, as when the layer was made.
    func tree(_ budget: inout LayerBudget) throws -> LayerNode {
        var linked: [UInt64: LayerNode] = [:]
        let (root, rootInode) = try node(inode(0))
        var pending = [(root, rootInode)]
        while let (directory, inode) = pending.popLast() {
            var children: [[UInt8]: LayerNode] = [:]
            for (name, number) in try entries(of: inode) {
                let entry = TarEntry(kind: .file, path: name)
                try budget.addNode(named: name, for: entry)
                if let known = linked[number] {
                    children[name] = known
                    continue
                }
                let (child, childInode) = try node(self.inode(number))
                try budget.addXattrs(child.xattrs, for: entry)
                children[name] = child
                if child.isDirectory { pending.append((child, childInode)) } else if childInode.links > 1 { linked[number] = child }
            }
            directory.content = .directory(children)
        }
        return root
    }

    /// Hands a file's data to `body`, piece by piece.
    func data(of node: LayerNode, _ body: (DataPiece) throws -> Void) throws {
        let inode = try inode(node.position / 32)
        let tail = inode.isInline ? inode.size % ErofsWriter.blockSize : 0
        let start = Int(inode.union) * ErofsWriter.blockSize
        var rest = try range(start, inode.size - tail)
        while !rest.isEmpty {
            try body(.bytes(UnsafeRawBufferPointer(rebasing: bytes[rest.prefix(1 << 18)])))
            rest = rest.dropFirst(1 << 18)
        }
        if tail > 0 { try body(.bytes(UnsafeRawBufferPointer(rebasing: bytes[try range(inode.afterInode, tail)]))) }
    }

    // MARK: Inodes

    private func range(_ start: Int, _ count: Int) throws -> Range<Int> {
        guard start >= 0, count >= 0, start <= bytes.count, count <= bytes.count - start else { throw damaged() }
        return start..<(start + count)
    }

    private func integer<Value: FixedWidthInteger>(_ at: Int, _ type: Value.Type) -> Value {
        bytes.loadUnaligned(fromByteOffset: at, as: type).littleEndian
    }

    private func inode(_ number: UInt64) throws -> Inode {
        guard let offset = Int(exactly: number), offset < bytes.count / 32 else { throw damaged() }
        let at = try range(metadata + offset * 32, ErofsInode.size).lowerBound
        let count = Int(integer(at + 2, UInt16.self))
        guard let size = Int(exactly: integer(at + 8, UInt64.self)) else { throw damaged() }
        let inode = Inode(
            at: at, format: integer(at, UInt16.self), mode: integer(at + 4, UInt16.self), size: size, union: integer(at + 16, UInt32.self),
            xattrBytes: count == 0 ? 0 : ErofsXattrs.headerSize + (count - 1) * 4, links: integer(at + 44, UInt32.self))
        guard inode.format & 1 == 1 else { throw damaged() }
        _ = try range(at, ErofsInode.size + inode.xattrBytes)
        return inode
    }

    private func node(_ inode: Inode) throws -> (node: LayerNode, inode: Inode) {
        let at = inode.at
        let node = LayerNode(
            content: try content(inode), mode: inode.mode & 0o7777, uid: integer(at + 24, UInt32.self), gid: integer(at + 28, UInt32.self),
            mtime: integer(at + 32, Int64.self), mtimeNanoseconds: integer(at + 40, UInt32.self),
            xattrs: inode.xattrBytes == 0 ? [] : try ErofsXattrs.read(bytes, at: at + ErofsInode.size, size: inode.xattrBytes))
        node.isOpaque = node.xattrs.contains(where: ErofsXattrs.isOpaqueMark)
        node.xattrs.removeAll(where: ErofsXattrs.isOpaqueMark)
        node.isImplied = node.isDirectory && bytes[at + 48] == 1
        node.position = UInt64(at - metadata)
        return (node, inode)
    }

    private func content(_ inode: Inode) throws -> LayerNode.Content {
        switch inode.mode & 0o170000 {
        case 0o040000: return .directory([:])
        case 0o100000: return .file(FileExtent(size: UInt64(inode.size), firstBlock: inode.union, tail: []))
        case 0o120000: return .symlink(Array(bytes[try small(inode)]))
        case 0o010000: return .fifo
        case 0o020000, 0o060000:
            let number = inode.union
            return .device(
                character: inode.mode & 0o170000 == 0o020000, major: number >> 8 & 0xfff, minor: number & 0xff | number >> 12 & ~0xff)
        default: throw damaged()
        }
    }

    /// Where the bytes of a directory or symbolic link are: beside the inode, or in blocks of their own.
    private func small(_ inode: Inode) throws -> Range<Int> {
        try range(inode.isInline ? inode.afterInode : Int(inode.union) * ErofsWriter.blockSize, inode.size)
    }

    private func entries(of inode: Inode) throws -> [(name: [UInt8], inode: UInt64)] {
        let all = try small(inode)
        var found: [(name: [UInt8], inode: UInt64)] = []
        var start = all.lowerBound
        while start < all.upperBound {
            let end = min(start + ErofsWriter.blockSize, all.upperBound)
            guard end - start >= 12 else { throw damaged() }
            let count = Int(integer(start + 8, UInt16.self)) / 12
            guard count > 0, start + count * 12 <= end else { throw damaged() }
            for index in 0..<count {
                let at = start + index * 12
                let first = start + Int(integer(at + 8, UInt16.self))
                let last = index + 1 < count ? start + Int(integer(at + 12 + 8, UInt16.self)) : end
                guard first <= last, last <= end else { throw damaged() }
                let name = Array(bytes[first..<last].prefix { $0 != 0 })
                if name != [46], name != [46, 46] { found.append((name, integer(at, UInt64.self))) }
            }
            start = end
        }
        return found
    }

    private func damaged() -> SwiftletError { SwiftletError(.dataLoss, "layer \(path): it cannot be read") }
}
