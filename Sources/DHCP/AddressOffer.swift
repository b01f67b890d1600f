import Errors
import Linux
import Runtime

/// What a machine's DHCP client is to learn about one of its interfaces: what CNI has given to the pod.
public struct AddressOffer: Sendable, Equatable {
    /// A classless static route (RFC 3442).
    public struct Route: Sendable, Equatable {
        public var destination: IPPrefix
        /// 0.0.0.0: on the link.
        public var gateway: IPAddress

        public init(destination: IPPrefix, gateway: IPAddress) {
            self.destination = destination
            self.gateway = gateway
        }
    }

    public var mac: MACAddress
    public var address: IPPrefix
    /// The first default route's.
    public var gateway: IPAddress?
    /// In an order in which they can be added; the one to the address's own network is not among them.
    public var routes: [Route]
    /// Bytes.
    public var mtu: Int
    public var nameservers: [IPAddress]
    public var domain: String?
    public var search: [String]
    /// Empty: none is offered.
    public var hostname: String

    /// Nil where the interface has no IPv4 address, or a MAC address that is none.
    ///
    /// - Parameter dns: what the pod is to use, the kubelet's configuration as a rule.
    public init?(_ interface: AttachedInterface, of network: AttachedNetwork, dns: NetworkDNS, hostname: String) {
        guard let mac = MACAddress(interface.mac),
            let address = interface.addresses.lazy.compactMap({ IPPrefix($0) }).first(where: { !$0.address.isIPv6 })
        else { return nil }
        self.mac = mac
        self.address = address
        mtu = interface.mtu
        nameservers = dns.nameservers.compactMap { IPAddress($0) }.filter { !$0.isIPv6 }
        search = dns.search
        domain = dns.domain ?? dns.search.first
        self.hostname = hostname
        var routes: [Route] = []
        for route in network.routes where route.interface == interface.name {
            guard let destination = IPPrefix(route.destination), !destination.address.isIPv6 else { continue }
            let gateway = route.gateway.isEmpty ? IPAddress.anyIPv4 : IPAddress(route.gateway) ?? .anyIPv4
            let isOwn = destination.length == address.length && destination.network == address.network
            guard !gateway.isIPv6, !(isOwn && gateway.isUnspecified) else { continue }
            routes.append(Route(destination: destination, gateway: gateway))
        }
        self.gateway = routes.first { $0.destination.isDefault && !$0.gateway.isUnspecified }?.gateway
        self.routes = Self.reachable(routes, from: address)
    }

    /// Gateways that neither the address's network nor a route on the link holds get a route of their own, before all others:
    /// clients add routes in the order of the option.
    private static func reachable(_ routes: [Route], from address: IPPrefix) -> [Route] {
        var known = [address] + routes.filter { $0.gateway.isUnspecified }.map(\.destination)
        var added: [Route] = []
        for gateway in routes.map(\.gateway) where !gateway.isUnspecified {
            let isReached = known.contains { IPPrefix(address: gateway, length: $0.length)?.network == $0.network }
            guard !isReached, let host = IPPrefix(address: gateway, length: 32) else { continue }
            added.append(Route(destination: host, gateway: .anyIPv4))
            known.append(host)
        }
        let onLink = routes.filter { $0.gateway.isUnspecified }
        return added + onLink + routes.filter { !$0.gateway.isUnspecified }
    }
}
