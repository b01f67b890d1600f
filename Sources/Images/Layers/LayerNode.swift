/// One inode of a layer being converted. A hard link is a second directory entry for the same node.
final class LayerNode {
    enum Content {
        case directory([[UInt8]: LayerNode])
        case file(FileExtent)
        case symlink([UInt8])
        case device(character: Bool, major: UInt32, minor: UInt32)
        case fifo
    }

    var content: Content
    var mode: UInt16
    var uid: UInt32
    var gid: UInt32
    var mtime: Int64
    var mtimeNanoseconds: UInt32
    var xattrs: [ExtendedAttribute]
    /// Hides what lower layers have in this directory.
    var isOpaque = false
    /// A directory that the layer's tar does not name: a lower layer's has its own mode, owner and attributes, or is a symbolic link.
    var isImplied = false
    /// Directory entries other than `.` and `..`.
    var links: UInt32 = 1

    // Set while the image is laid out.
    var number: UInt32 = 0
    /// Byte offset in the metadata area.
    var position: UInt64 = 0
    var isPlaced = false
    /// Bytes of a directory or symbolic link.
    var dataSize = 0
    /// Where these bytes are when they do not fit beside the inode, else 0.
    var overflowBlock: UInt32 = 0

    init(
        content: Content, mode: UInt16, uid: UInt32 = 0, gid: UInt32 = 0, mtime: Int64 = 0, mtimeNanoseconds: UInt32 = 0,
        xattrs: [ExtendedAttribute] = []
    ) {
        self.content = content
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.mtimeNanoseconds = mtimeNanoseconds
        self.xattrs = xattrs
    }

    /// A directory a tar implies without naming it.
    static func impliedDirectory() -> LayerNode {
        let node = LayerNode(content: .directory([:]), mode: 0o755)
        node.isImplied = true
        return node
    }

    /// Stands for a hard link to a file that the layer has not, which is that of a lower one (`LayerStack`). To overlayfs it is a whiteout.
    static func foreignLink(to path: [UInt8]) -> LayerNode {
        let node = whiteout()
        node.xattrs = [ExtendedAttribute(name: linkAttribute, value: path)]
        return node
    }

    private static let linkAttribute = Array("trusted.swiftlet.link".utf8)

    /// Of a `foreignLink`: the path in the image.
    var linkPath: [UInt8]? {
        isWhiteout ? xattrs.first { $0.name == Self.linkAttribute }?.value : nil
    }

    /// Overlayfs' mark for "not here, whatever the lower layers say": a character device 0:0.
    static func whiteout() -> LayerNode {
        LayerNode(content: .device(character: true, major: 0, minor: 0), mode: 0)
    }

    var isDirectory: Bool {
        if case .directory = content { true } else { false }
    }

    var isWhiteout: Bool {
        if case .device(true, 0, 0) = content { true } else { false }
    }

    /// Whether mode, owner and extended attributes are the same.
    func hasAttributes(of other: LayerNode) -> Bool {
        mode == other.mode && uid == other.uid && gid == other.gid && xattrs.count == other.xattrs.count
            && xattrs.allSatisfy { other.xattrs.contains($0) }
    }

    func child(_ name: [UInt8]) -> LayerNode? {
        if case .directory(let children) = content { children[name] } else { nil }
    }

    /// Puts `node` at `name`, in place of what was there. Only for directories.
    func setChild(_ name: [UInt8], _ node: LayerNode) {
        guard case .directory(var children) = content else { return }
        content = .fifo  // so that the dictionary is not copied
        if let old = children.updateValue(node, forKey: name) { old.links -= 1 }
        content = .directory(children)
    }
}

/// Where a file's data is in the image being written.
struct FileExtent: Sendable {
    var size: UInt64
    var firstBlock: UInt32
    /// The last, partial block when it is to be stored beside the inode.
    var tail: [UInt8]
}
