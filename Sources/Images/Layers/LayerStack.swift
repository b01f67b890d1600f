import Errors

/// The tree that an image's layers mean: each unpacked into what the layers below it left, in a chroot, as containerd does.
///
/// What distinguishes it from overlayfs' view: a directory that a path only implies keeps the lower layer's attributes, or leads through
/// the lower layer's symbolic link; a hard link may be to a lower layer's file.
struct LayerStack {
    let root = MergedNode(.impliedDirectory(), layer: 0)
    private let limits: LayerLimits
    private var steps = 0
    private var layer = 0
    /// Files of lower layers by the entries that are links to them.
    private var linkTargets: [ObjectIdentifier: MergedNode] = [:]
    private var laterLinks: [(name: [UInt8], directory: MergedNode, link: LayerNode)] = []

    /// As the kernel: ELOOP after 40.
    private static let maximumLinksFollowed = 40
    private static let slash = UInt8(ascii: "/")

    init(limits: LayerLimits) {
        self.limits = limits
    }

    /// Unpacks a layer above those before.
    ///
    /// - Throws: `SwiftletError(.invalidArgument)` naming the entry that leads nowhere.
    mutating func add(_ tree: LayerNode, number: Int, marks: LayerMarks) throws {
        layer = number
        linkTargets = [:]
        laterLinks = []
        // A link is to the file that was there before the layer came, if there was one.
        if marks.contains(.foreignLinks) { try findLinkTargets(in: tree) }
        try remove(tree, from: [root])
        if !tree.isImplied { (root.source, root.layer) = (tree, number) }
        try unpack(tree, into: [root])
        for (name, directory, link) in laterLinks {
            guard let path = link.linkPath, let target = try file(path) else {
                throw rejected(name, "is a hard link to \(shown(link.linkPath ?? [])), which is no file of this layer or of one below")
            }
            directory.children[name] = target
        }
    }

    // MARK: Hard links

    private mutating func findLinkTargets(in directory: LayerNode) throws {
        guard case .directory(let children) = directory.content else { return }
        for child in children.values {
            if child.isDirectory {
                try findLinkTargets(in: child)
            } else if let path = child.linkPath {
                linkTargets[ObjectIdentifier(child)] = try file(path)
            }
        }
    }

    /// The file at a path of the image; nil when there is none. A symbolic link is a file.
    private mutating func file(_ path: [UInt8]) throws -> MergedNode? {
        var parts = Self.components(path)
        guard let name = parts.popLast(), let directory = try walk(parts, from: [root], creating: false) else { return nil }
        guard let node = directory[directory.count - 1].children[name], !node.isDirectory else { return nil }
        return node
    }

    // MARK: Unpacking

    /// Takes away what the layer's whiteouts are for. First of all, for they are for lower layers only.
    private mutating func remove(_ directory: LayerNode, from place: [MergedNode]) throws {
        let target = place[place.count - 1]
        if directory.isOpaque { target.children = [:] }
        guard case .directory(let children) = directory.content else { return }
        for (name, child) in children {
            if child.isWhiteout {
                target.children[name] = nil
            } else if child.isDirectory, let below = target.children[name] {
                if below.isDirectory {
                    try remove(child, from: place + [below])
                } else if child.isImplied, case .symlink(let link) = below.source.content,
                    let there = try follow(link, from: place, creating: false, name)
                {
                    try remove(child, from: there)
                }
            }
        }
    }

    private mutating func unpack(_ directory: LayerNode, into place: [MergedNode]) throws {
        guard case .directory(let children) = directory.content else { return }
        let target = place[place.count - 1]
        for (name, child) in children.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            if child.isDirectory {
                try unpack(child, into: try self.directory(for: child, name, in: place))
            } else if child.linkPath != nil {
                if let file = linkTargets[ObjectIdentifier(child)] {
                    target.children[name] = file
                } else {
                    laterLinks.append((name, target, child))
                }
            } else if !child.isWhiteout {
                target.children[name] = MergedNode(child, layer: layer)
            }
        }
    }

    /// Where the directory `child` of the layer is in the tree.
    private mutating func directory(for child: LayerNode, _ name: [UInt8], in place: [MergedNode]) throws -> [MergedNode] {
        let target = place[place.count - 1]
        let below = target.children[name]
        if let below, below.isDirectory {
            if !child.isImplied { (below.source, below.layer) = (child, layer) }
            return place + [below]
        }
        if let below, child.isImplied {
            guard case .symlink(let link) = below.source.content, let there = try follow(link, from: place, creating: true, name) else {
                throw rejected(name, "goes through something that is not a directory in the layers below")
            }
            return there
        }
        return place + [try make(child, name, in: place)]
    }

    private func make(_ source: LayerNode, _ name: [UInt8], in place: [MergedNode]) throws -> MergedNode {
        guard place.count < limits.depth else { throw rejected(name, "is deeper than \(limits.depth) directories") }
        let node = MergedNode(source, layer: layer)
        place[place.count - 1].children[name] = node
        return node
    }

    // MARK: Paths

    private mutating func follow(
        _ link: [UInt8], from place: [MergedNode], creating: Bool, _ name: [UInt8]
    ) throws -> [MergedNode]? {
        let found = try walk(Self.components(link), from: link.first == Self.slash ? [root] : place, creating: creating)
        if creating, found == nil { throw rejected(name, "goes through a symbolic link of a layer below that leads to no directory") }
        return found
    }

    /// Walks down, following symbolic links as a process chrooted into the image would.
    ///
    /// - Parameters:
    ///   - place: the directories from the root to the first one.
    ///   - creating: make the directories that are missing.
    /// - Returns: the directories from the root to the last one; nil when there is none.
    private mutating func walk(_ parts: [[UInt8]], from place: [MergedNode], creating: Bool) throws -> [MergedNode]? {
        var stack = place
        var pending = Array(parts.reversed())
        var linksFollowed = 0
        while let name = pending.popLast() {
            steps += 1
            guard steps <= limits.steps else {
                throw SwiftletError(
                    .resourceExhausted, "the paths and symbolic links of the layers lead through more than \(limits.steps) names")
            }
            if name == Array("..".utf8) {
                if stack.count > 1 { stack.removeLast() }
                continue
            }
            guard let next = stack[stack.count - 1].children[name] else {
                guard creating, name.count <= 255 else { return nil }
                stack.append(try make(.impliedDirectory(), name, in: stack))
                continue
            }
            if next.isDirectory {
                stack.append(next)
                guard stack.count <= limits.depth else { return nil }
            } else if case .symlink(let link) = next.source.content, linksFollowed < Self.maximumLinksFollowed {
                linksFollowed += 1
                if link.first == Self.slash { stack = [root] }
                pending += Self.components(link).reversed()
            } else {
                return nil
            }
        }
        return stack
    }

    private static func components(_ path: [UInt8]) -> [[UInt8]] {
        path.split(separator: slash).map(Array.init).filter { $0 != Array(".".utf8) }
    }

    private func rejected(_ name: [UInt8], _ why: String) -> SwiftletError {
        SwiftletError(.invalidArgument, "layer \(layer + 1) of the image: entry \(shown(name)) \(why)")
    }

    private func shown(_ path: [UInt8]) -> String { TarEntry(kind: .file, path: path).displayPath }
}
