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

/// What verbose Status answers of the node. `swiftlet doctor` reads it; all values are strings in JSON.
struct NodeDetails: Encodable {
    var version: String
    /// Joined by commas, the default first.
    var handlers: String
    var cgroupDriver: String
    var eventWatchers: String
    /// Joined by commas; absent before UpdateRuntimeConfig.
    var podCIDR: String?
    var kernel: String
    var initramfs: String
    var root: String
    var run: String
}
