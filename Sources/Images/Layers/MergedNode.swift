/// A name in the tree that layers make together.
final class MergedNode {
    /// What it is. A directory's children are not those of `source` alone.
    var source: LayerNode
    /// Which layer `source` is in, counted from the lowest.
    var layer: Int
    var children: [[UInt8]: MergedNode] = [:]

    init(_ source: LayerNode, layer: Int) {
        self.source = source
        self.layer = layer
    }

    var isDirectory: Bool { source.isDirectory }

    /// Children in byte order, so that equal layers give equal results.
    var sortedChildren: [(name: [UInt8], node: MergedNode)] {
        children.map { ($0.key, $0.value) }.sorted { $0.0.lexicographicallyPrecedes($1.0) }
    }
}

/// What overlayfs shows of stacked layers: it goes by their directory entries alone.
struct OverlayView {
    let root = MergedNode(.impliedDirectory(), layer: 0)

    /// Puts a layer above those before.
    func add(_ layer: LayerNode, number: Int) {
        root.source = layer
        root.layer = number
        add(layer, number, to: root)
    }

    private func add(_ directory: LayerNode, _ number: Int, to place: MergedNode) {
        if directory.isOpaque { place.children = [:] }
        guard case .directory(let children) = directory.content else { return }
        for (name, child) in children {
            if child.isWhiteout {
                place.children[name] = nil
                continue
            }
            guard child.isDirectory, let below = place.children[name], below.isDirectory else {
                let node = MergedNode(child, layer: number)
                place.children[name] = node
                if child.isDirectory { add(child, number, to: node) }
                continue
            }
            (below.source, below.layer) = (child, number)
            add(child, number, to: below)
        }
    }
}
