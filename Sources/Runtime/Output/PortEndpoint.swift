import Linux

/// Where connections to a sandbox's ports are made: data, so that another process can make them.
public enum PortEndpoint: Codable, Sendable, Hashable {
    /// By the guest's agent, within the guest.
    case agent(VsockAddress)
    /// To the pod's address, from the network namespace that is bound at this path.
    case namespace(path: String, address: String)
}

extension PortEndpoint {
    /// What a pod's namespace connects to its own guest from, where the guest is joined so that it can
    /// (``PodNetworkAttachment/join(tap:with:answersNamespace:)``). On the link between the two only; of the block that RFC 3927 reserves.
    public static let sourceIPv4 = IPPrefix("169.254.255.211/32")
    public static let sourceIPv6 = IPPrefix("fe80::a9fe:ffd3/128")
}
