import Errors

/// Kernel modules that are loaded when somebody asks for them, or after a while.
final class ModulesOnDemand: Sendable {
    private let wanted: Latch
    private let loaded: Latch

    init() throws(SwiftletError) {
        wanted = try Latch()
        loaded = try Latch()
    }

    /// Asks for them. Does not block.
    ///
    /// - Returns: whether they are loaded.
    func demand() -> Bool {
        if loaded.isOpen { return true }
        wanted.open()
        return false
    }

    /// - Returns: whether somebody has asked for them within so many milliseconds.
    func waitUntilWanted(milliseconds: Int32) -> Bool { wanted.wait(milliseconds: milliseconds) }

    /// Returns when they are.
    func wait() { loaded.wait() }

    /// Called when they are.
    func areLoaded() { loaded.open() }
}
