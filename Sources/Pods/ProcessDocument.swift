import Linux

/// What the ledger keeps of a process: which one it is, so that it can be ended and measured whatever has become of the others. It
/// has none until the process was started.
struct ProcessDocument: Codable, Sendable {
    var process: ProcessIdentity?
}

extension LedgerEntry {
    /// The process that the entry names; nil for another kind of resource, and for a process that was not started.
    var process: ProcessIdentity? { (try? decoded(ProcessDocument.self))?.process }
}
