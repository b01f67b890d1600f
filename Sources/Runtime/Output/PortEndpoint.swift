/// Where connections to a sandbox's ports are made: data, so that another process can make them.
public enum PortEndpoint: Codable, Sendable, Hashable {
    /// By the guest's agent, within the guest.
    case agent(VsockAddress)
    /// To the pod's address, from the network namespace that is bound at this path.
    case namespace(path: String, address: String)
    /// To the loopback of the network namespace that is bound at this path, or to the pod's address there. Whoever connects to the unix socket
    /// `sockets` is given TCP sockets of the namespace.
    case loopback(path: String, address: String, sockets: String)
    /// To the node's loopback.
    case nodeLoopback
}
