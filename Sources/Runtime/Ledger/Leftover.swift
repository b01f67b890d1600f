import Foundation
import State

/// A resource that is on the node and that no ledger lists: an earlier daemon's whose state was lost. Found at each start until it is
/// released, so that no ledger has to note it.
public struct Leftover: Sendable, Equatable {
    /// The pod's id, or as much of its beginning as names on the node carry.
    public var pod: String
    public var kind: ResourceKind
    public var name: String
    /// What the kind's release needs in addition to the name.
    public var document: Data

    /// Characters of a pod's id that names on the node carry.
    public static let prefixLength = 13

    public init(pod: String, kind: ResourceKind, name: String, document: some StoredDocument) throws {
        self.pod = pod
        self.kind = kind
        self.name = name
        self.document = try document.stored()
    }

    /// Whether a name is what names on the node carry of a pod's id.
    public static func isPodPrefix(_ name: some StringProtocol) -> Bool {
        name.utf8.count == prefixLength
            && name.utf8.allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            }
    }
}
