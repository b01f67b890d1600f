import Errors

/// An extended inode: `struct erofs_inode_extended`.
struct ErofsInode {
    static let size = 64

    var format: UInt16 { 1 | (isInline ? 2 << 1 : 0) }
    var isInline = false
    var size64: UInt64 = 0
    /// First data block, or the device number.
    var union: UInt32 = 0
    private let node: LayerNode

    init(_ node: LayerNode) {
        self.node = node
    }

    func write(to bytes: inout LittleEndianBytes) {
        bytes.append(format)
        bytes.append(ErofsXattrs.count(node))
        bytes.append(Self.typeBits(node) | node.mode & 0o7777)
        bytes.append(UInt16(0))
        bytes.append(size64)
        bytes.append(union)
        bytes.append(node.number)
        bytes.append(node.uid)
        bytes.append(node.gid)
        bytes.append(UInt64(bitPattern: node.mtime))
        bytes.append(node.mtimeNanoseconds)
        bytes.append(Self.links(node))
        // `i_reserved2`, which kernels do not read.
        bytes.append([node.isImplied ? 1 : 0] + [UInt8](repeating: 0, count: 15))
    }

    /// A directory has its entry in the parent, its own `.`, and the `..` of each directory in it.
    private static func links(_ node: LayerNode) -> UInt32 {
        guard case .directory(let children) = node.content else { return node.links }
        return 2 + UInt32(children.values.count { $0.isDirectory })
    }

    /// S_IFMT of stat(2).
    private static func typeBits(_ node: LayerNode) -> UInt16 {
        switch node.content {
        case .directory: 0o040000
        case .file: 0o100000
        case .symlink: 0o120000
        case .device(let character, _, _): character ? 0o020000 : 0o060000
        case .fifo: 0o010000
        }
    }
}

/// Extended attributes stored after an inode: `struct erofs_xattr_ibody_header` and its entries.
enum ErofsXattrs {
    static let headerSize = 12
    /// EROFS_XATTR_INDEX_*: the part of the name that is not stored.
    private static let prefixes: [(index: UInt8, prefix: [UInt8], isWhole: Bool)] = [
        (2, Array("system.posix_acl_access".utf8), true),
        (3, Array("system.posix_acl_default".utf8), true),
        (1, Array("user.".utf8), false),
        (4, Array("trusted.".utf8), false),
        (6, Array("security.".utf8), false),
    ]
    private static let opaque = ExtendedAttribute(name: Array("trusted.overlay.opaque".utf8), value: Array("y".utf8))

    /// The index and stored suffix of a name EROFS can hold, else nil.
    static func split(_ name: [UInt8]) -> (index: UInt8, suffix: [UInt8])? {
        for (index, prefix, isWhole) in prefixes where isWhole ? name == prefix : name.starts(with: prefix) && name.count > prefix.count {
            return (index, Array(name.dropFirst(prefix.count)))
        }
        return nil
    }

    /// The attributes in the bytes after an inode, `size` of them from `start`.
    static func read(_ image: UnsafeRawBufferPointer, at start: Int, size: Int) throws -> [ExtendedAttribute] {
        var attributes: [ExtendedAttribute] = []
        var at = start + headerSize
        let end = start + size
        while at + 4 <= end {
            let (length, index) = (Int(image[at]), image[at + 1])
            let valueSize = Int(image.loadUnaligned(fromByteOffset: at + 2, as: UInt16.self).littleEndian)
            let (name, value) = (at + 4, at + 4 + length)
            guard let prefix = prefixes.first(where: { $0.index == index })?.prefix, value + valueSize <= end else {
                throw SwiftletError(.dataLoss, "an extended attribute cannot be read")
            }
            attributes.append(
                ExtendedAttribute(name: prefix + Array(image[name..<value]), value: Array(image[value..<(value + valueSize)])))
            at = (value + valueSize + 3) & ~3
        }
        return attributes
    }

    static func isOpaqueMark(_ attribute: ExtendedAttribute) -> Bool { attribute == opaque }

    /// Bytes, 0 without attributes.
    static func size(_ node: LayerNode) -> Int {
        size(all(node))
    }

    static func size(_ attributes: [ExtendedAttribute]) -> Int {
        let entries = attributes.reduce(0) { $0 + entrySize($1) }
        return entries == 0 ? 0 : headerSize + entries
    }

    /// `i_xattr_icount`: the size in words, the header counting as one.
    static func count(_ node: LayerNode) -> UInt16 {
        let size = size(node)
        return size == 0 ? 0 : UInt16((size - headerSize) / 4 + 1)
    }

    static func write(_ node: LayerNode, to bytes: inout LittleEndianBytes) {
        let attributes = all(node)
        guard !attributes.isEmpty else { return }
        bytes.append([UInt8](repeating: 0, count: headerSize))
        for attribute in attributes {
            guard let (index, suffix) = split(attribute.name) else { continue }
            bytes.append(UInt8(suffix.count))
            bytes.append(index)
            bytes.append(UInt16(attribute.value.count))
            bytes.append(suffix)
            bytes.append(attribute.value)
            bytes.append([UInt8](repeating: 0, count: (4 - (suffix.count + attribute.value.count) % 4) % 4))
        }
    }

    private static func all(_ node: LayerNode) -> [ExtendedAttribute] {
        node.isOpaque ? node.xattrs + [opaque] : node.xattrs
    }

    private static func entrySize(_ attribute: ExtendedAttribute) -> Int {
        (4 + (split(attribute.name)?.suffix.count ?? 0) + attribute.value.count + 3) & ~3
    }
}
