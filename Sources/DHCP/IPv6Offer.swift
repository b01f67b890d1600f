import Linux
import Runtime

/// What a machine is to learn of IPv6 about one of its interfaces: what CNI has given to the pod.
public struct IPv6Offer: Sendable, Equatable {
    public var mac: MACAddress
    /// The pod's interface, which the gateway is behind.
    public var interface: String
    /// Not link-local; one at least.
    public var addresses: [IPPrefix]
    /// The default route's.
    public var gateway: IPAddress?
    /// Networks on the link.
    public var onLink: [IPPrefix]
    /// Networks behind the gateway, beside the default.
    public var routes: [IPPrefix]
    /// Bytes.
    public var mtu: Int
    public var nameservers: [IPAddress]
    public var search: [String]

    /// Nil where the interface has no IPv6 address, or a MAC address that is none.
    ///
    /// - Parameter dns: what the pod is to use, the kubelet's configuration as a rule.
    public init?(_ interface: AttachedInterface, of network: AttachedNetwork, dns: NetworkDNS) {
        let addresses = interface.addresses.compactMap { IPPrefix($0) }.filter { $0.address.isIPv6 && !$0.address.isLinkLocal }
        guard let mac = MACAddress(interface.mac), !addresses.isEmpty else { return nil }
        self.mac = mac
        self.interface = interface.name
        self.addresses = Array(addresses.prefix(8))
        mtu = interface.mtu
        nameservers = dns.nameservers.compactMap { IPAddress($0) }.filter(\.isIPv6)
        search = dns.search
        let own = network.routes.filter { $0.interface == interface.name }
            .compactMap { route in IPPrefix(route.destination).map { (destination: $0, gateway: IPAddress(route.gateway)) } }
            .filter { $0.destination.address.isIPv6 }
        let gateway = own.first { $0.destination.isDefault && $0.gateway?.isIPv6 == true }?.gateway ?? own.compactMap(\.gateway).first
        self.gateway = gateway
        var onLink: [IPPrefix] = []
        // A route of a single address on the link is there for a gateway, which the advertisement names by itself.
        for prefix in addresses + own.filter({ $0.gateway == nil }).map(\.destination)
        where prefix.length < 128 && !prefix.isDefault && !prefix.address.isLinkLocal && !prefix.address.isMulticast {
            guard let network = IPPrefix(address: prefix.network, length: prefix.length), !onLink.contains(network) else { continue }
            onLink.append(network)
        }
        self.onLink = onLink
        isDefault = own.contains { $0.destination.isDefault && $0.gateway == gateway }
        routes = own.filter { $0.gateway != nil && $0.gateway == gateway && !$0.destination.isDefault }.map(\.destination)
    }

    /// Whether the gateway is a default router.
    public var isDefault: Bool
}

/// An IPv6 address as a filter compares it.
struct IPv6Words {
    let values: [UInt32]

    init?(_ address: IPAddress) {
        guard address.isIPv6 else { return nil }
        values = stride(from: 0, to: 16, by: 4).map { at in address.bytes[at..<(at + 4)].reduce(0) { $0 << 8 | UInt32($1) } }
    }
}

extension IPAddress {
    /// The address that Linux gives an interface on its link: EUI-64 (RFC 4291, appendix A).
    static func linkLocal(_ mac: [UInt8]) -> [UInt8] {
        [0xFE, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, mac[3], mac[4], mac[5]]
    }
}
