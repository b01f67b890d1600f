import Errors

/// The directory tree a layer's tar describes. Nothing of it exists on the host: links are followed in memory, within the tree.
///
/// Semantics are those of unpacking the tar into an empty root (chroot), with the OCI image spec's whiteouts turned into overlayfs' form.
struct LayerTree {
    let root = LayerNode.impliedDirectory()
    private let limits: LayerLimits
    private var budget: LayerBudget

    private static let whiteoutPrefix = Array(".wh.".utf8)
    private static let opaqueName = Array(".wh..wh..opq".utf8)
    private static let reservedPrefix = Array(".wh..wh.".utf8)
    private static let ownPrefixes = ["trusted.overlay.", "trusted.swiftlet."].map { Array($0.utf8) }
    private static let maximumNameBytes = 255
    private static let maximumXattrBytes = 65_535
    /// As the kernel: ELOOP after 40.
    private static let maximumLinksFollowed = 40
    private static let slash = UInt8(ascii: "/")
    private static let dot = Array(".".utf8)
    private static let dotDot = Array("..".utf8)

    init(limits: LayerLimits) {
        self.limits = limits
        budget = LayerBudget(limits)
    }

    /// Adds one member. `data` stores a file's bytes and says where they went; it is called for files only.
    ///
    /// - Throws: `SwiftletError(.invalidArgument)` naming the entry that must not be in a layer.
    mutating func add(_ entry: TarEntry, data: ([ExtendedAttribute]) throws -> FileExtent) throws {
        let components = try components(of: entry.path, entry)
        guard let name = components.last else {
            guard entry.kind == .directory else { throw rejected(entry, "replaces the root directory") }
            try setAttributes(of: root, entry)
            return
        }
        let parent = try directory(components.dropLast(), creating: true, entry)
        if name.starts(with: Self.whiteoutPrefix) {
            return try addWhiteout(name, in: parent, entry)
        }
        let old = parent.child(name)
        try budget.addNode(named: name, for: entry)
        switch entry.kind {
        case .directory:
            if let old, old.isDirectory {
                try setAttributes(of: old, entry)
            } else {
                let node = LayerNode(content: .directory([:]), mode: 0)
                try setAttributes(of: node, entry)
                node.isOpaque = old?.isWhiteout ?? false
                parent.setChild(name, node)
            }
        case .file:
            let node = LayerNode(content: .fifo, mode: 0)
            try setAttributes(of: node, entry)
            node.content = .file(try data(node.xattrs))
            parent.setChild(name, node)
        case .symlink:
            guard !entry.linkPath.isEmpty, entry.linkPath.count <= limits.pathBytes else {
                throw rejected(entry, "is a symbolic link with a target of \(entry.linkPath.count) bytes")
            }
            try budget.addName(entry.linkPath, for: entry)
            try addNode(.symlink(entry.linkPath), name, parent, entry)
        case .hardLink:
            if let target = try linkTarget(entry) {
                target.links += 1
                parent.setChild(name, target)
            } else {
                try budget.addXattrs([ExtendedAttribute(name: name, value: entry.linkPath)], for: entry)
                parent.setChild(name, .foreignLink(to: entry.linkPath))
            }
        case .characterDevice, .blockDevice:
            let isCharacter = entry.kind == .characterDevice
            guard entry.deviceMajor < 1 << 12, entry.deviceMinor < 1 << 20 else {
                throw rejected(entry, "is the device \(entry.deviceMajor):\(entry.deviceMinor); Linux has 12 and 20 bits for the two")
            }
            try addNode(.device(character: isCharacter, major: entry.deviceMajor, minor: entry.deviceMinor), name, parent, entry)
        case .fifo:
            try addNode(.fifo, name, parent, entry)
        }
    }

    private mutating func addNode(_ content: LayerNode.Content, _ name: [UInt8], _ parent: LayerNode, _ entry: TarEntry) throws {
        let node = LayerNode(content: content, mode: 0)
        try setAttributes(of: node, entry)
        parent.setChild(name, node)
    }

    // MARK: Whiteouts

    private mutating func addWhiteout(_ name: [UInt8], in parent: LayerNode, _ entry: TarEntry) throws {
        if name == Self.opaqueName {
            parent.isOpaque = true
            return
        }
        // Book-keeping of AUFS, meaningless elsewhere.
        if name.starts(with: Self.reservedPrefix) { return }
        let hidden = Array(name.dropFirst(Self.whiteoutPrefix.count))
        guard !hidden.isEmpty, hidden != Self.dot, hidden != Self.dotDot else { throw rejected(entry, "is a whiteout of nothing") }
        // A whiteout speaks of lower layers only: what this layer itself has there stays.
        switch parent.child(hidden) {
        case nil:
            try budget.addNode(named: hidden, for: entry)
            parent.setChild(hidden, .whiteout())
        case let present? where present.isDirectory: (present.isOpaque, present.isImplied) = (true, false)
        default: break
        }
    }

    // MARK: Paths

    /// The path's names, `.` and `..` resolved; a leading `/` counts for nothing.
    private mutating func components(of path: [UInt8], _ entry: TarEntry) throws -> [[UInt8]] {
        guard path.count <= limits.pathBytes else { throw rejected(entry, "has a path of \(path.count) bytes") }
        let parts = path.split(separator: Self.slash)
        try budget.addSteps(parts.count, for: entry)
        var result: [[UInt8]] = []
        for part in parts {
            let part = Array(part)
            if part == Self.dot { continue }
            if part == Self.dotDot {
                guard result.popLast() != nil else { throw rejected(entry, "leads out of the image's root directory") }
                continue
            }
            guard part.count <= Self.maximumNameBytes else { throw rejected(entry, "has a name of \(part.count) bytes") }
            result.append(part)
        }
        return result
    }

    /// Walks down from the root, following symbolic links inside the tree as a process chrooted there would.
    private mutating func directory(_ components: ArraySlice<[UInt8]>, creating: Bool, _ entry: TarEntry) throws -> LayerNode {
        var stack = [root]
        var pending = Array(components.reversed())
        var linksFollowed = 0
        while let name = pending.popLast() {
            if name == Self.dotDot {
                if stack.count > 1 { stack.removeLast() }
                continue
            }
            let current = stack[stack.count - 1]
            let next = current.child(name)
            if let next, case .symlink(let target) = next.content {
                linksFollowed += 1
                guard linksFollowed <= Self.maximumLinksFollowed else { throw rejected(entry, "goes through too many symbolic links") }
                if target.first == Self.slash { stack = [root] }
                let parts = target.split(separator: Self.slash)
                try budget.addSteps(parts.count, for: entry)
                pending += parts.map(Array.init).filter { $0 != Self.dot }.reversed()
                continue
            }
            if let next, next.isDirectory {
                stack.append(next)
            } else if creating, next == nil || next?.isWhiteout == true {
                guard name.count <= Self.maximumNameBytes else { throw rejected(entry, "goes through a name of \(name.count) bytes") }
                try budget.addNode(named: name, for: entry)
                let made = LayerNode.impliedDirectory()
                (made.isOpaque, made.isImplied) = (next != nil, next == nil)
                current.setChild(name, made)
                stack.append(made)
            } else {
                throw rejected(entry, "goes through something that is not a directory")
            }
            guard stack.count <= limits.depth else { throw rejected(entry, "is deeper than \(limits.depth) directories") }
        }
        return stack[stack.count - 1]
    }

    /// The file of this layer that `entry` is a hard link to; nil when it is one of a lower layer, if it is there at all.
    private mutating func linkTarget(_ entry: TarEntry) throws -> LayerNode? {
        let target = TarEntry(kind: .hardLink, path: entry.linkPath)
        guard let components = try? components(of: entry.linkPath, target), let name = components.last else {
            throw rejected(entry, "is a hard link to \(target.displayPath), which is no file")
        }
        let parent: LayerNode
        do { parent = try directory(components.dropLast(), creating: false, target) } catch let error as SwiftletError
            where error.code == .invalidArgument
        {
            return nil
        }
        guard let node = parent.child(name) else { return nil }
        guard !node.isDirectory, !node.isWhiteout || node.linkPath != nil else {
            throw rejected(entry, "is a hard link to \(target.displayPath), which is no file of this layer")
        }
        return node
    }

    // MARK: Attributes

    private mutating func setAttributes(of node: LayerNode, _ entry: TarEntry) throws {
        node.mode = entry.mode
        node.uid = entry.uid
        node.gid = entry.gid
        node.mtime = entry.mtime
        node.mtimeNanoseconds = entry.mtimeNanoseconds
        node.isImplied = false
        // Attributes of overlayfs' own and of Swiftlet's are ours to give; those EROFS has no place for mean nothing in the guest.
        node.xattrs = entry.xattrs.filter { attribute in
            !Self.ownPrefixes.contains { attribute.name.starts(with: $0) } && ErofsXattrs.split(attribute.name) != nil
        }
        for xattr in node.xattrs where xattr.name.count > Self.maximumNameBytes {
            throw rejected(entry, "has an extended attribute with a name of \(xattr.name.count) bytes")
        }
        let size = ErofsXattrs.size(node)
        guard size <= Self.maximumXattrBytes else { throw rejected(entry, "has \(size) bytes of extended attributes") }
        try budget.addXattrs(node.xattrs, for: entry)
    }

    private func rejected(_ entry: TarEntry, _ why: String) -> SwiftletError {
        SwiftletError(.invalidArgument, "entry \(entry.displayPath) \(why)")
    }
}
