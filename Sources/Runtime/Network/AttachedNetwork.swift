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

    /// The pod's first interface.
    public var primary: AttachedInterface { AttachedInterface(name: interfaceName, mac: mac, mtu: mtu, addresses: addresses) }

    /// All that the guest gets, the first one first.
    public var interfaces: [AttachedInterface] { [primary] + additional }

    /// The addresses without prefix lengths, the primary one first: the pod's IPs in PodSandboxStatus.
    public var podIPs: [String] { addresses.compactMap { IPPrefix($0)?.address.description } }
}

/// An interface of a pod.
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
