import Errors
import Foundation

/// A layer above all others of an image, in which stands what overlayfs would show otherwise than the layers mean it. It depends on the
/// stack; the layers themselves do not, and are shared between images. Most images need none.
struct FixupLayer {
    struct Result: Sendable {
        /// Bytes of the disk image.
        var sizeBytes: UInt64
        /// Files and directories in it.
        var entries: Int
    }

    private let limits: LayerLimits
    private let isCancelled: @Sendable () -> Bool
    /// Files that have to be in the fix-up layer.
    private var copied: Set<ObjectIdentifier> = []
    private var copies: [ObjectIdentifier: LayerNode] = [:]
    private var entries = 0
    private var bytes: UInt64 = 0

    private init(limits: LayerLimits, isCancelled: @escaping @Sendable () -> Bool) {
        self.limits = limits
        self.isCancelled = isCancelled
    }

    /// The name of the fix-up layer of this stack among layers.
    static func id(of diffIDs: [String]) -> Digest {
        Digest(of: Array("swiftlet fix-up 1\n\(diffIDs.joined(separator: "\n"))".utf8))
    }

    /// Makes the fix-up layer of a stack at `path`, if it needs one. Blocks. On failure nothing is left at `path`.
    ///
    /// - Parameters:
    ///   - layers: disk images, lowest first.
    ///   - stacked: the places in `layers` of those that overlayfs gets.
    /// - Throws: `SwiftletError`: `.invalidArgument` for an entry that leads nowhere, `.resourceExhausted` for what exceeds the limits.
    static func make(
        of layers: [String], stacked: [Int], at path: String, limits: LayerLimits, isCancelled: @escaping @Sendable () -> Bool = { false }
    ) throws -> Result? {
        let readers = try layers.map { try ErofsReader($0) }
        guard try isNeeded(readers, top: stacked.last) else { return nil }
        // The layers' trees and what is made of them are in memory at once.
        var most = limits
        most.nodes /= 2
        var budget = LayerBudget(most)
        var stack = LayerStack(limits: limits)
        let view = OverlayView()
        for (number, reader) in readers.enumerated() {
            guard !isCancelled() else { throw CancellationError() }
            let tree = try reader.tree(&budget)
            try stack.add(tree, number: number, marks: reader.marks)
            if stacked.contains(number) { view.add(tree, number: number) }
        }
        var fixup = FixupLayer(limits: limits, isCancelled: isCancelled)
        // An image of nothing is one empty directory.
        guard fixup.compare(stack.root, view.root) || stacked.isEmpty else { return nil }
        let output = try SparseFile(creating: path, reserve: limits.diskReserve)
        do {
            let writer = try ErofsWriter(output)
            let root = try fixup.difference(stack.root, view.root, readers, writer) ?? fixup.directory(stack.root)
            let size = try writer.finish(root: root)
            try output.seal()
            return Result(sizeBytes: size, entries: fixup.entries)
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Whether the layers' marks can mean anything, which needs no look at their files.
    private static func isNeeded(_ layers: [ErofsReader], top: Int?) throws -> Bool {
        guard let top, let lowest = layers.first else { return true }
        if lowest.marks.contains(.foreignLinks) { return true }
        if layers.dropFirst().contains(where: { !$0.marks.isDisjoint(with: [.foreignLinks, .impliedDirectories]) }) { return true }
        // Few layers but the lowest name the root directory, which has the usual mode and owner in most.
        guard layers[top].marks.contains(.impliedRoot), let named = layers.last(where: { !$0.marks.contains(.impliedRoot) }) else {
            return false
        }
        return try !layers[top].root().hasAttributes(of: named.root())
    }

    /// Notes which files differ. Returns whether anything does.
    private mutating func compare(_ meant: MergedNode, _ shown: MergedNode?) -> Bool {
        var differs = shown.map { !$0.source.hasAttributes(of: meant.source) } ?? true
        for (name, child) in meant.children {
            let other = shown?.children[name]
            if child.isDirectory {
                if compare(child, other.flatMap { $0.isDirectory ? $0 : nil }) { differs = true }
            } else if other?.source !== child.source {
                copied.insert(ObjectIdentifier(child.source))
                differs = true
            }
        }
        return differs || shown?.children.keys.contains { meant.children[$0] == nil } == true
    }

    /// What has to lie above `shown` to make it `meant`; nil: nothing.
    private mutating func difference(
        _ meant: MergedNode, _ shown: MergedNode?, _ layers: [ErofsReader], _ writer: ErofsWriter
    ) throws -> LayerNode? {
        var children: [(name: [UInt8], node: LayerNode)] = []
        for (name, child) in meant.sortedChildren {
            let other = shown?.children[name]
            if child.isDirectory {
                if let node = try difference(child, other.flatMap { $0.isDirectory ? $0 : nil }, layers, writer) {
                    children.append((name, node))
                }
            } else if other?.source !== child.source || copied.contains(ObjectIdentifier(child.source)) {
                children.append((name, try copy(child, layers[child.layer], writer)))
            }
        }
        // In order, so that equal stacks give equal images.
        for (name, _) in shown?.sortedChildren ?? [] where meant.children[name] == nil {
            entries += 1
            children.append((name, .whiteout()))
        }
        if children.isEmpty, let shown, shown.source.hasAttributes(of: meant.source) { return nil }
        let node = directory(meant)
        for (name, child) in children { node.setChild(name, child) }
        return node
    }

    private mutating func directory(_ meant: MergedNode) -> LayerNode {
        entries += 1
        return attributes(of: meant.source, content: .directory([:]))
    }

    /// The same file for each of its names.
    private mutating func copy(_ file: MergedNode, _ layer: ErofsReader, _ writer: ErofsWriter) throws -> LayerNode {
        if let node = copies[ObjectIdentifier(file.source)] {
            node.links += 1
            return node
        }
        guard !isCancelled() else { throw CancellationError() }
        entries += 1
        let node = attributes(of: file.source, content: file.source.content)
        if case .file(let extent) = file.source.content {
            bytes += extent.size
            guard bytes <= limits.bytes else {
                throw SwiftletError(
                    .resourceExhausted, "files that links of upper layers lead to, or are to, exceed the \(limits.bytes) bytes of a layer")
            }
            node.content = .file(
                try writer.store(size: extent.size, xattrs: node.xattrs) { body in try layer.data(of: file.source, body) })
        }
        copies[ObjectIdentifier(file.source)] = node
        return node
    }

    private func attributes(of source: LayerNode, content: LayerNode.Content) -> LayerNode {
        LayerNode(
            content: content, mode: source.mode, uid: source.uid, gid: source.gid, mtime: source.mtime,
            mtimeNanoseconds: source.mtimeNanoseconds, xattrs: source.xattrs)
    }
}
