/// Where CNI's configuration, plugins and our records of attachments are.
public struct CNIConfiguration: Sendable, Equatable {
    /// The first .conf, .conflist or .json file in lexical order counts.
    public var configDirectory: String
    /// A network list that is put there, with the node's own ranges in it, once they are known; nil for none.
    public var template: String?
    /// Searched in this order.
    public var pluginDirectories: [String]
    /// One file per attached pod. Must survive a reboot, as the address pools of IPAM plugins do.
    public var cacheDirectory: String
    /// Where the pods' network namespaces are bound.
    public var namespaceDirectory: String
    /// For one call of one plugin.
    public var pluginDeadline: Duration
    /// How long plugins may fail in STATUS before the node's network counts as not ready.
    public var statusGrace = Duration.seconds(30)
    /// The plugins are asked to release what is of no pod of this node: not where another runtime uses the same network.
    public var collectsGarbage = true
    /// A pod may ask by annotation to send from other addresses than its own.
    public var allowsSpoofing = false
    /// The network namespace in which plugins run and taps are made; nil is the daemon's own.
    public var hostNamespace: String?
    /// Where taps are made for machines to be started with; nil: in the host's.
    public var machineNamespace: String?

    public init(
        configDirectory: String = "/etc/cni/net.d", template: String? = nil,
        pluginDirectories: [String] = ["/opt/cni/bin", "/usr/lib/cni"],
        cacheDirectory: String = "/var/lib/swiftlet/cni", namespaceDirectory: String = "/run/swiftlet/pods",
        pluginDeadline: Duration = .seconds(60), hostNamespace: String? = nil
    ) {
        self.configDirectory = configDirectory
        self.template = template
        self.pluginDirectories = pluginDirectories
        self.cacheDirectory = cacheDirectory
        self.namespaceDirectory = namespaceDirectory
        self.pluginDeadline = pluginDeadline
        self.hostNamespace = hostNamespace
    }
}
