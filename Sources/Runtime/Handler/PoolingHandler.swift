import State

/// A handler that keeps machines ready for pods to come. Each is a ledger without a pod, under an owner of its own.
public protocol PoolingHandler: RuntimeHandler {
    /// Begins to keep machines, where it is configured to, with those of an earlier daemon that are of use. Makes none yet.
    ///
    /// Called once, before ``RuntimeHandler/leftovers(besides:)`` and the first start.
    ///
    /// - Parameters:
    ///   - found: what the ledger lists for owners of pools.
    ///   - releasers: release the machines that no pod will have.
    /// - Returns: whether the handler looks after all of `found`; else nobody does.
    func openPool(in database: StateDatabase, holding found: [String: [LedgerEntry]], releasers: Releasers) async -> Bool

    /// Begins to make machines that are missing.
    func fillPool() async

    /// The pool at this moment; nil where there is none.
    var pool: PoolFigures? { get }

    /// Ends the work on the pool. Its machines wait for the next daemon, or are ended where that is configured.
    func closePool() async
}

/// What is to be known of a pool.
public struct PoolFigures: Sendable, Codable, Equatable {
    /// How many machines should wait.
    public var size: Int
    /// How many wait.
    public var waiting = 0
    /// Starts of pods that got a machine of the pool.
    public var hits = 0
    /// Starts that found none that fits.
    public var misses = 0
    /// Starts whose machine of the pool was of no use: they went on with another.
    public var failures = 0
    /// Why the last machine could not be made; nil: it could, or none was to be made.
    public var obstacle: String?

    public init(size: Int) { self.size = size }
}

extension Ledger {
    /// What the owners of pools begin with; no pod's id does.
    public static let poolOwnerPrefix = "pool-"
}
