/// What a client asked a pod sandbox to be, after validation.
public struct SandboxSpec: Codable, Sendable, Equatable {
    /// The kubelet's name of a sandbox; unique by all four parts.
    public struct Metadata: Codable, Sendable, Hashable {
        public var name: String
        public var uid: String
        public var namespace: String
        public var attempt: UInt32

        public init(name: String, uid: String, namespace: String, attempt: UInt32) {
            self.name = name
            self.uid = uid
            self.namespace = namespace
            self.attempt = attempt
        }
    }

    public struct DNS: Codable, Sendable, Equatable {
        public var servers: [String]
        public var searches: [String]
        public var options: [String]

        public init(servers: [String], searches: [String], options: [String]) {
            self.servers = servers
            self.searches = searches
            self.options = options
        }
    }

    public var metadata: Metadata
    public var hostname = ""
    /// Nil: the node's own resolv.conf.
    public var dns: DNS?
    /// Empty: containers keep no log.
    public var logDirectory = ""
    public var networkMode = NetworkMode.pod
    /// Namespaces of the node that the pod's containers share.
    public var nodeNamespaces: [NodeNamespace] = []
    public var portMappings: [PortMapping] = []
    public var labels: [String: String] = [:]
    public var annotations: [String: String] = [:]
    /// Empty: the default handler.
    public var runtimeHandler = ""
    public var sysctls: [String: String] = [:]
    public var cgroupParent = ""
    public var sharesPidNamespace = false
    /// Whether the pod's containers were announced with IPC namespaces of their own; each says so itself as well.
    public var separatesIPC: Bool?
    /// Nil: the guest's own users.
    public var userNamespace: IDMappings?
    /// Nil: nothing but what every pod gets.
    public var policies: SecurityPolicies?
    /// What the pod's containers may use together.
    public var resources: LinuxResources?
    /// What the RuntimeClass says that the machine costs beside its containers.
    public var overhead: LinuxResources?

    /// The guest's host name: as asked for, else the pod's name as far as it fits (HOST_NAME_MAX is 64).
    package var effectiveHostname: String {
        hostname.isEmpty ? String(metadata.name.prefix(63)) : hostname
    }

    /// Whether it asks for namespaces of the node, which a machine's pods cannot have.
    package var needsNode: Bool { networkMode == .node || !nodeNamespaces.isEmpty }

    /// What the machine has to hold before there are containers.
    package var demand: PodDemand { PodDemand(pod: resources, overhead: overhead) }

    public init(metadata: Metadata) {
        self.metadata = metadata
    }
}
