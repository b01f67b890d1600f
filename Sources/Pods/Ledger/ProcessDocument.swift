import Linux
import State

/// What the ledger keeps of a process: which one it is, so that it can be ended and measured whatever has become of the others. It
/// has none until the process was started.
struct ProcessDocument: StoredDocument {
    static let what = "ledger document of a process"

    var process: ProcessIdentity?
}

extension LedgerEntry {
    /// The process that the entry names; nil for another kind of resource, and for a process that was not started.
    var process: ProcessIdentity? { (try? decoded(ProcessDocument.self))?.process }
}

/// The document of a resource whose name says all that its release needs.
struct EmptyDocument: StoredDocument {
    static let what = "empty ledger document"
}
