import State

/// What is needed to attach a pod to its network, and to detach it again later.
///
/// Codable, so that the ledger can keep it.
public struct PodNetworkRequest: StoredDocument, Equatable {
    public static let what = "ledger document of a network attachment"

    /// CNI's container id: letters, digits, '.', '_' and '-'.
    public var podID: String
    public var podName: String
    public var podNamespace: String
    public var podUID: String
    /// Where the pod's network namespace is bound.
    public var namespacePath: String
    public var interfaceName: String
    public var portMappings: [PortMapping]
    public var bandwidth: Bandwidth?
    /// For plugins with the "dns" capability.
    public var dns: NetworkDNS?
    /// For plugins with the "io.kubernetes.cri.pod-annotations" capability.
    public var annotations: [String: String]
    /// For plugins with the "cgroupPath" capability.
    public var cgroupParent: String?

    public init(
        podID: String, podName: String, podNamespace: String, podUID: String, namespacePath: String, interfaceName: String = "eth0",
        portMappings: [PortMapping] = [], bandwidth: Bandwidth? = nil, dns: NetworkDNS? = nil, annotations: [String: String] = [:],
        cgroupParent: String? = nil
    ) {
        self.podID = podID
        self.podName = podName
        self.podNamespace = podNamespace
        self.podUID = podUID
        self.namespacePath = namespacePath
        self.interfaceName = interfaceName
        self.portMappings = portMappings
        self.bandwidth = bandwidth
        self.dns = dns
        self.annotations = annotations
        self.cgroupParent = cgroupParent
    }
}

/// A port of the node that leads to a port of the pod.
public struct PortMapping: Sendable, Codable, Equatable {
    public enum TransportProtocol: String, Sendable, Codable {
        case tcp
        case udp
        case sctp
    }

    public var transport: TransportProtocol
    public var containerPort: UInt16
    /// 0: not on the node; such a mapping reaches no plugin.
    public var hostPort: UInt16
    /// Nil: every address of the node.
    public var hostIP: String?

    public init(transport: TransportProtocol = .tcp, containerPort: UInt16, hostPort: UInt16, hostIP: String? = nil) {
        self.transport = transport
        self.containerPort = containerPort
        self.hostPort = hostPort
        self.hostIP = hostIP
    }
}

/// Limits for the "bandwidth" capability. Rates in bits per second, bursts in bits; nil sets no limit.
public struct Bandwidth: Sendable, Codable, Equatable {
    public var ingressRate: Int64?
    public var ingressBurst: Int64?
    public var egressRate: Int64?
    public var egressBurst: Int64?

    public init(ingressRate: Int64? = nil, ingressBurst: Int64? = nil, egressRate: Int64? = nil, egressBurst: Int64? = nil) {
        self.ingressRate = ingressRate
        self.ingressBurst = ingressBurst
        self.egressRate = egressRate
        self.egressBurst = egressBurst
    }
}

/// What a resolv.conf would say.
public struct NetworkDNS: Sendable, Codable, Equatable {
    public var nameservers: [String]
    public var domain: String?
    public var search: [String]
    public var options: [String]

    public init(nameservers: [String] = [], domain: String? = nil, search: [String] = [], options: [String] = []) {
        self.nameservers = nameservers
        self.domain = domain
        self.search = search
        self.options = options
    }
}
