import Foundation
import State

/// One resource in the ledger.
public struct LedgerEntry: Sendable, Equatable {
    /// The id of the sandbox or container that owns it.
    public var owner: String
    public var kind: ResourceKind
    /// Chosen before the resource exists.
    public var name: String
    /// JSON of what the release needs in addition to the name.
    public var document: Data
    /// Order of acquisition; the release goes backwards.
    public var sequence: Int64

    public init(owner: String, kind: ResourceKind, name: String, document: Data, sequence: Int64 = 0) {
        self.owner = owner
        self.kind = kind
        self.name = name
        self.document = document
        self.sequence = sequence
    }

    /// - Throws: `.dataLoss`; `.failedPrecondition` for a document of a newer version.
    public func decoded<Document: StoredDocument>(_ type: Document.Type) throws -> Document {
        try Document(stored: document)
    }
}

/// A resource that could not be released yet.
public struct PendingRelease: Sendable {
    public var entry: LedgerEntry
    public var reason: String

    public init(entry: LedgerEntry, reason: String) {
        self.entry = entry
        self.reason = reason
    }
}
