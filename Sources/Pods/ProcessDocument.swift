import Linux

/// What the ledger keeps of a process: which one it is, so that it can be ended and measured whatever has become of the others. It
/// has none until the process was started.
struct ProcessDocument: Codable, Sendable {
    var process: ProcessIdentity?
}
