/// Where connections to a sandbox's ports are made: data, so that another process can make them.
public enum PortEndpoint: Codable, Sendable, Hashable {
    /// By the guest's agent, within the guest.
    case agent(VsockAddress)
    /// To the pod's address, from the network namespace that is bound at this path.
    case namespace(path: String, address: String)
}
