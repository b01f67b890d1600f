/// Why nothing in a sandbox runs for the moment although nobody paused it. It goes on by itself when the cause is gone; Stop and Remove
/// need not wait for that.
public struct SandboxHalt: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong, with the object's name, and what ends it.
    public var reason: String
    /// Unix time in nanoseconds by the node's clock.
    public var since: Int64

    public init(reason: String, since: Int64) {
        self.reason = reason
        self.since = since
    }

    public var description: String { reason }
}
