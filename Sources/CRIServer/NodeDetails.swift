import Runtime

/// Where the daemon keeps its files and takes the guest from: absolute paths, as configured.
public struct NodePaths: Sendable {
    public var kernel: String
    public var initramfs: String
    /// Durable state. The writable layers' disks are on its filesystem.
    public var root: String
    /// Sockets and consoles of running machines.
    public var run: String

    public init(kernel: String, initramfs: String, root: String, run: String) {
        self.kernel = kernel
        self.initramfs = initramfs
        self.root = root
        self.run = run
    }
}

/// What verbose Status answers of the node. `swiftlet doctor` reads it.
struct NodeDetails: Encodable {
    var version: String
    /// The default first.
    var handlers: [String]
    var cgroupDriver: String
    var eventWatchers: Int
    /// Empty before UpdateRuntimeConfig.
    var podCIDRs: [String]
    var kernel: String
    var initramfs: String
    var root: String
    var run: String
    /// Machines that wait for pods, by handler; none where a handler keeps none.
    var pools: [String: PoolFigures]
}
