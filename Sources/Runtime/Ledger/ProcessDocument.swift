import Linux
import State

/// What the ledger keeps of a process: which one it is, so that it can be ended and measured whatever has become of the others. It
/// has none until the process was started.
package struct ProcessDocument: StoredDocument {
    package static let what = "ledger document of a process"

    package var process: ProcessIdentity?
    /// Further processes that serve the same end; nil for none.
    package var others: [ProcessIdentity]?

    package init(process: ProcessIdentity?) {
        self.process = process
    }

    package var all: [ProcessIdentity] { [process].compactMap { $0 } + (others ?? []) }
}

extension LedgerEntry {
    /// The process that the entry names; nil for another kind of resource, and for a process that was not started.
    package var process: ProcessIdentity? { (try? decoded(ProcessDocument.self))?.process }
}

/// The document of a resource whose name says all that its release needs.
package struct EmptyDocument: StoredDocument {
    package static let what = "empty ledger document"

    package init() {}
}
