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
    /// Machines of one size.
    public struct Shape: Sendable, Codable, Equatable {
        public var memoryBytes: UInt64
        public var vcpus: Int
        /// How many should wait.
        public var size: Int
        /// How many wait.
        public var waiting = 0
        /// Starts of pods that got one.
        public var hits = 0
        /// Why the last one could not be made; nil: it could, or none was to be made.
        public var obstacle: String?

        public init(memoryBytes: UInt64, vcpus: Int, size: Int) {
            self.memoryBytes = memoryBytes
            self.vcpus = vcpus
            self.size = size
        }

        /// For people: "256 MiB, 1 vCPU".
        public var name: String { "\(memoryBytes >> 20) MiB, \(vcpus) vCPU\(vcpus == 1 ? "" : "s")" }
    }

    /// The machines by their size: no two have the same.
    public var shapes: [Shape]
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
    /// Why the last machine of a shape could not be made; nil: it could, or none was to be made.
    public var obstacle: String?

    public init(_ shapes: [Shape]) {
        self.shapes = shapes
        size = shapes.reduce(0) { $0 + $1.size }
    }

    /// Changes the figures of one shape, and the sums with them.
    public mutating func update(_ index: Int, _ change: (inout Shape) -> Void) {
        change(&shapes[index])
        waiting = shapes.reduce(0) { $0 + $1.waiting }
        hits = shapes.reduce(0) { $0 + $1.hits }
        obstacle = shapes.lazy.compactMap(\.obstacle).first
    }
}

extension Ledger {
    /// What the owners of pools begin with; no pod's id does.
    public static let poolOwnerPrefix = "pool-"
}
