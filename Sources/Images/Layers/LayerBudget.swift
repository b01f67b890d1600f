import Errors

/// What a layer's tree has taken of the host so far, held to the layer's limits.
///
/// What is replaced later stays counted, so that the limits bound work as well as memory.
struct LayerBudget {
    /// Bytes an extended attribute takes in memory beside its name and value.
    static let xattrOverhead = 96

    private let limits: LayerLimits
    private(set) var nodes = 0
    private var nameBytes = 0
    private var steps = 0
    private var xattrBytes = 0

    init(_ limits: LayerLimits) {
        self.limits = limits
    }

    /// Counts a node about to be made for `entry`, or on the way to it.
    mutating func addNode(named name: [UInt8], for entry: TarEntry) throws {
        nodes += 1
        guard nodes <= limits.nodes else {
            throw exceeded(entry, "more than the \(limits.nodes) files and directories a layer may have, those that paths imply counted")
        }
        try addName(name, for: entry)
    }

    /// Counts a name, or the target of a symbolic link, that the tree keeps.
    mutating func addName(_ name: [UInt8], for entry: TarEntry) throws {
        nameBytes += name.count
        guard nameBytes <= limits.nameBytes else {
            throw exceeded(entry, "the layer's names and links exceed \(limits.nameBytes) bytes")
        }
    }

    /// Counts names about to be looked up.
    mutating func addSteps(_ count: Int, for entry: TarEntry) throws {
        steps += count
        guard steps <= limits.steps else {
            throw exceeded(entry, "the paths and symbolic links of the layer lead through more than \(limits.steps) names")
        }
    }

    mutating func addXattrs(_ xattrs: [ExtendedAttribute], for entry: TarEntry) throws {
        for xattr in xattrs { xattrBytes += xattr.name.count + xattr.value.count + Self.xattrOverhead }
        guard xattrBytes <= limits.xattrBytes else {
            throw exceeded(entry, "the layer's extended attributes exceed \(limits.xattrBytes) bytes")
        }
    }

    private func exceeded(_ entry: TarEntry, _ what: String) -> SwiftletError {
        SwiftletError(.resourceExhausted, "entry \(entry.displayPath): \(what)")
    }
}
