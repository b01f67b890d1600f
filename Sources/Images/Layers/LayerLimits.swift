/// What one layer may ask of the host at most. Real images stay far below.
public struct LayerLimits: Sendable {
    /// Members of the tar.
    public var entries: Int
    /// Files and directories, with the directories that paths imply without a member of their own.
    public var nodes: Int
    /// Bytes of the names of all nodes and of the targets of symbolic links.
    public var nameBytes: Int
    /// Names walked on the way to all members, symbolic links followed: a bound on time.
    public var steps: Int
    /// Bytes of the uncompressed tar.
    public var bytes: UInt64
    /// Bytes of a member's path, and of a symbolic link's target: PATH_MAX of Linux.
    public var pathBytes: Int
    /// Directories within each other.
    public var depth: Int
    /// Bytes of all extended attributes together, each counted with `LayerBudget.xattrOverhead`.
    public var xattrBytes: Int
    /// Bytes that stay free on the store's file system.
    public var diskReserve: UInt64

    public init(
        entries: Int = 1_000_000, nodes: Int = 2_000_000, nameBytes: Int = 128 << 20, steps: Int = 100_000_000, bytes: UInt64 = 64 << 30,
        pathBytes: Int = 4095, depth: Int = 1000, xattrBytes: Int = 128 << 20, diskReserve: UInt64 = 256 << 20
    ) {
        self.entries = entries
        self.nodes = nodes
        self.nameBytes = nameBytes
        self.steps = steps
        self.bytes = bytes
        self.pathBytes = pathBytes
        self.depth = depth
        self.xattrBytes = xattrBytes
        self.diskReserve = diskReserve
    }
}
