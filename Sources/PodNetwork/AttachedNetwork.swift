import Linux
import Runtime

extension AttachedNetwork {
    /// Whether all these addresses are on the first interface.
    func holds(_ recorded: [String]) -> Bool {
        let present = Set(addresses.compactMap { IPPrefix($0) })
        return recorded.allSatisfy { text in IPPrefix(text).map { present.contains($0) } ?? false }
    }

    /// Reads the calling thread's network namespace; nil when it has no interface of that name.
    ///
    /// Left out: the loopback, taps, link-local IPv6 addresses (the guest makes its own), routes that the kernel makes by
    /// itself for each address, and devices without addresses that modules put into every namespace.
    static func read(interfaceName: String, reported: Set<String>, dns: NetworkDNS) throws -> AttachedNetwork? {
        let netlink = try RouteNetlink()
        let links = try netlink.links().filter { !$0.isLoopback && $0.kind != "tun" }
        let addresses = try netlink.addresses().filter { !($0.prefix.address.isIPv6 && $0.prefix.address.isLinkLocal) }

        func interface(_ link: NetworkLink) -> AttachedInterface {
            AttachedInterface(
                name: link.name, mac: link.mac?.description ?? "", mtu: link.mtu,
                addresses: addresses.filter { $0.link == link.index }.map(\.prefix.description))
        }
        guard let primary = links.first(where: { $0.name == interfaceName }).map(interface) else { return nil }
        let additional = links.filter { $0.name != interfaceName }.map(interface)
            .filter { !$0.addresses.isEmpty || reported.contains($0.name) }
        let names = Dictionary(links.map { ($0.index, $0.name) }) { first, _ in first }
        let routes = try netlink.routes().compactMap { route in
            names[route.link].flatMap { NetworkRoute(route, interface: $0) }
        }
        return AttachedNetwork(
            interfaceName: interfaceName, mac: primary.mac, mtu: primary.mtu, addresses: primary.addresses,
            routes: routes.filter(\.isOnLink) + routes.filter { !$0.isOnLink && !$0.isDefault }
                + routes.filter { !$0.isOnLink && $0.isDefault },
            additional: additional, dns: dns)
    }
}

extension NetworkRoute {
    fileprivate var isOnLink: Bool { gateway.isEmpty }
    fileprivate var isDefault: Bool { destination.hasSuffix("/0") }

    /// RTPROT_REDIRECT, RTPROT_KERNEL and RTPROT_RA: routes the kernel made.
    private static let kernelOrigins: Set<UInt8> = [1, 2, 9]

    fileprivate init?(_ route: LinkRoute, interface: String) {
        guard !Self.kernelOrigins.contains(route.origin) else { return nil }
        self.init(
            destination: route.destination.description, gateway: route.gateway?.description ?? "", interface: interface,
            mtu: route.mtu ?? 0, source: route.source?.description ?? "", scope: Int(route.scope))
    }
}
