/// What a client asked a container to be, after validation.
public struct ContainerSpec: Codable, Sendable, Equatable {
    /// The kubelet's name of a container; unique in its sandbox.
    public struct Metadata: Codable, Sendable, Hashable {
        public var name: String
        public var attempt: UInt32

        public init(name: String, attempt: UInt32) {
            self.name = name
            self.attempt = attempt
        }
    }

    public enum PidMode: String, Codable, Sendable {
        case container
        case pod
        case target
        case node
    }

    public struct Capabilities: Codable, Sendable, Equatable {
        /// Names with or without the CAP_ prefix; "ALL" means all.
        public var add: [String] = []
        public var drop: [String] = []
        public var ambient: [String] = []

        public init(add: [String] = [], drop: [String] = [], ambient: [String] = []) {
            self.add = add
            self.drop = drop
            self.ambient = ambient
        }
    }

    public struct KeyValue: Codable, Sendable, Equatable {
        public var key: String
        public var value: RawText

        public init(key: String, value: RawText) {
            self.key = key
            self.value = value
        }
    }

    public var metadata: Metadata
    /// The image as the client named it: a reference or an id.
    public var image: String
    /// The image as the pod's author named it, where the kubelet says so.
    public var userSpecifiedImage = ""
    /// The image's first tag when the container was made, for people.
    public var imageTag = ""
    /// `repository@digest` of the image when the container was made; nil for one that no registry gave.
    public var imageDigest: String?
    public var command: [String] = []
    public var arguments: [String] = []
    public var workingDirectory = ""
    public var environment: [KeyValue] = []
    public var labels: [String: String] = [:]
    public var annotations: [String: String] = [:]
    /// Relative to the sandbox's log directory; empty: no log.
    public var logPath = ""
    public var stdin = false
    public var stdinOnce = false
    public var terminal = false
    /// "uid", "uid:gid" or a user name; empty: the image's user.
    public var user = ""
    /// Group id that beats the user's own.
    public var group: UInt32?
    public var supplementalGroups: [UInt32] = []
    public var capabilities = Capabilities()
    public var mounts: [ContainerMount] = []
    public var privileged = false
    public var readonlyRoot = false
    public var noNewPrivileges = false
    public var security = ContainerSecurity()
    public var pidMode = PidMode.container
    public var pidTarget = ""
    public var networkMode = NetworkMode.pod
    public var maskedPaths: [String] = []
    public var readonlyPaths: [String] = []
    /// Signal name or number; empty: the image's, else SIGTERM.
    public var stopSignal = ""
    public var oomScoreAdjustment: Int32?
    /// Its limits, which may change later.
    public var resources = LinuxResources()

    public init(metadata: Metadata, image: String) {
        self.metadata = metadata
        self.image = image
    }
}

extension ContainerSpec {
    /// Whether the container shares a namespace of the node.
    func shares(_ namespace: NodeNamespace) -> Bool {
        switch namespace {
        case .pid: pidMode == .node
        case .ipc: security.ipcMode == .node
        }
    }
}
