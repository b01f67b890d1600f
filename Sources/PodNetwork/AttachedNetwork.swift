import Linux

/// What the pod's network namespace holds after the CNI plugins have run: what the guest must get.
public struct AttachedNetwork: Sendable, Codable, Equatable {
    public var interfaceName: String
    /// "02:00:00:00:00:01".
    public var mac: String
    /// Bytes.
    public var mtu: Int
    /// CIDR form, the primary address first, IPv4 and IPv6 in the order in which the kernel lists them.
    public var addresses: [String]
    /// Of all interfaces, in an order in which they can be added: those on the link first, the defaults last.
    public var routes: [NetworkRoute]
    /// Interfaces that the plugins made beside the pod's first one.
    public var additional: [AttachedInterface]
    /// What the plugins say of DNS; the kubelet's own configuration comes before it.
    public var dns: NetworkDNS

    public init(
        interfaceName: String, mac: String, mtu: Int, addresses: [String], routes: [NetworkRoute], additional: [AttachedInterface] = [],
        dns: NetworkDNS = NetworkDNS()
    ) {
        self.interfaceName = interfaceName
        self.mac = mac
        self.mtu = mtu
        self.addresses = addresses
        self.routes = routes
        self.additional = additional
        self.dns = dns
    }

    /// The addresses without prefix lengths, the primary one first: the pod's IPs in PodSandboxStatus.
    public var podIPs: [String] { addresses.compactMap { IPPrefix($0)?.address.description } }
}

/// An interface beside the pod's first one.
public struct AttachedInterface: Sendable, Codable, Equatable {
    public var name: String
    public var mac: String
    /// Bytes.
    public var mtu: Int
    public var addresses: [String]

    public init(name: String, mac: String, mtu: Int, addresses: [String]) {
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.addresses = addresses
    }
}

/// A route of the main table.
public struct NetworkRoute: Sendable, Codable, Equatable {
    /// CIDR; "0.0.0.0/0" and "::/0" are the defaults.
    public var destination: String
    /// Empty: on the link.
    public var gateway: String
    public var interface: String
    /// Path MTU in bytes; 0 is the interface's.
    public var mtu: Int
    /// Preferred source address, or empty.
    public var source: String
    /// The kernel's route scope: 0 universe, 253 link.
    public var scope: Int

    public init(destination: String, gateway: String = "", interface: String, mtu: Int = 0, source: String = "", scope: Int = 0) {
        self.destination = destination
        self.gateway = gateway
        self.interface = interface
        self.mtu = mtu
        self.source = source
        self.scope = scope
    }
}

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
