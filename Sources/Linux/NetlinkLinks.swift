import CLinux
import Errors
import Glibc

/// A network interface as the kernel lists it.
public struct NetworkLink: Sendable, Hashable {
    public var index: Int32
    public var name: String
    /// Nil for devices without a link-layer address of six bytes.
    public var mac: MACAddress?
    /// Bytes.
    public var mtu: Int
    /// "veth", "tun", "bridge", …; nil for physical devices and the loopback.
    public var kind: String?
    /// IFF_* of netdevice(7).
    public var flags: UInt32
    /// Index of the bridge or bond it belongs to.
    public var master: Int32?
    /// For a veth: the other end's index in its own namespace.
    public var peer: Int32?

    public var isUp: Bool { flags & UInt32(IFF_UP) != 0 }
    public var isLoopback: Bool { flags & UInt32(IFF_LOOPBACK) != 0 }
}

/// What is to change on a link; nil leaves a property as it is.
public struct LinkChange: Sendable {
    public var up: Bool?
    /// The link must be down for most drivers.
    public var name: String?
    public var mac: MACAddress?
    public var mtu: Int?
    /// Descriptor of a network namespace to move the link into.
    public var namespace: Int32?
    /// Index of a bridge; 0 takes the link out of its bridge.
    public var master: Int32?

    public init(
        up: Bool? = nil, name: String? = nil, mac: MACAddress? = nil, mtu: Int? = nil, namespace: Int32? = nil, master: Int32? = nil
    ) {
        self.up = up
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.namespace = namespace
        self.master = master
    }
}

extension RouteNetlink {
    /// All links of the namespace, by index.
    public func links() throws -> [NetworkLink] {
        try dump(RTM_GETLINK, NetlinkBody(ifinfomsg()), step: "listing network links").compactMap(NetworkLink.init)
            .sorted { $0.index < $1.index }
    }

    /// The link of that name, or nil.
    public func link(named name: String) throws -> NetworkLink? {
        guard isLinkName(name) else { return nil }
        var body = NetlinkBody(ifinfomsg())
        body.attribute(Int(IFLA_IFNAME), string: name)
        do {
            return try get(RTM_GETLINK, body, step: "looking up network link \(name)").compactMap(NetworkLink.init).first
        } catch let error as SwiftletError where error.systemErrno == ENODEV {
            return nil
        }
    }

    /// Changes several properties in one request.
    public func change(link index: Int32, _ change: LinkChange) throws {
        var header = ifinfomsg()
        header.ifi_index = index
        if let up = change.up {
            header.ifi_change = UInt32(IFF_UP)
            header.ifi_flags = up ? UInt32(IFF_UP) : 0
        }
        var body = NetlinkBody(header)
        if let name = change.name { body.attribute(Int(IFLA_IFNAME), string: try checkedLinkName(name)) }
        if let mac = change.mac { body.attribute(Int(IFLA_ADDRESS), bytes: mac.bytes) }
        if let mtu = change.mtu { body.attribute(Int(IFLA_MTU), UInt32(clamping: mtu)) }
        if let namespace = change.namespace { body.attribute(Int(IFLA_NET_NS_FD), UInt32(bitPattern: namespace)) }
        if let master = change.master { body.attribute(Int(IFLA_MASTER), UInt32(bitPattern: master)) }
        try self.change(RTM_NEWLINK, body, step: "changing network link \(index) (\(change))")
    }

    /// Deletes a link; deleting one end of a veth deletes both.
    public func delete(link index: Int32) throws {
        var header = ifinfomsg()
        header.ifi_index = index
        try change(RTM_DELLINK, NetlinkBody(header), step: "deleting network link \(index)")
    }

    /// Keeps the kernel from giving the link an IPv6 address of its own; without IPv6 in the kernel nothing changes.
    public func disableIPv6Autoconfiguration(link index: Int32) throws {
        var header = ifinfomsg()
        header.ifi_index = index
        var body = NetlinkBody(header)
        body.nest(Int(IFLA_AF_SPEC)) { families in
            families.nest(Int(AF_INET6)) { settings in
                settings.attribute(Int(IFLA_INET6_ADDR_GEN_MODE), bytes: [UInt8(IN6_ADDR_GEN_MODE_NONE.rawValue)])
            }
        }
        do {
            try change(RTM_NEWLINK, body, step: "keeping network link \(index) from IPv6 autoconfiguration")
        } catch let error as SwiftletError where error.systemErrno == EAFNOSUPPORT {
            return
        }
    }

    /// Makes a pair of connected devices, both down.
    ///
    /// - Parameter peerNamespace: descriptor of the network namespace that the second one appears in.
    public func createVeth(_ name: String, peer: String, peerNamespace: Int32? = nil) throws {
        var body = NetlinkBody(ifinfomsg())
        let peerName = try checkedLinkName(peer)
        body.attribute(Int(IFLA_IFNAME), string: try checkedLinkName(name))
        body.nest(Int(IFLA_LINKINFO)) { info in
            info.attribute(Int(IFLA_INFO_KIND), string: "veth")
            info.nest(Int(IFLA_INFO_DATA)) { data in
                var inner = NetlinkBody(ifinfomsg())
                inner.attribute(Int(IFLA_IFNAME), string: peerName)
                if let peerNamespace { inner.attribute(Int(IFLA_NET_NS_FD), UInt32(bitPattern: peerNamespace)) }
                data.attribute(Int(VETH_INFO_PEER), bytes: inner.bytes)
            }
        }
        try change(RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body, step: "creating veth \(name) with peer \(peer)")
    }

    /// Makes a device that needs no settings of its own ("bridge", "dummy"), down.
    public func createLink(_ name: String, kind: String) throws {
        var body = NetlinkBody(ifinfomsg())
        body.attribute(Int(IFLA_IFNAME), string: try checkedLinkName(name))
        body.nest(Int(IFLA_LINKINFO)) { $0.attribute(Int(IFLA_INFO_KIND), string: kind) }
        try change(RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body, step: "creating \(kind) \(name)")
    }
}

/// 1 to 15 bytes without slash, colon or space, as dev_valid_name() of the kernel asks.
func isLinkName(_ name: String) -> Bool {
    let bytes = name.utf8
    return (1..<Int(IFNAMSIZ)).contains(bytes.count) && name != "." && name != ".."
        && bytes.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") && $0 != 0x7F }
}

func checkedLinkName(_ name: String) throws -> String {
    guard isLinkName(name) else {
        throw SwiftletError(.invalidArgument, "\"\(name)\" cannot name a network interface: 1 to 15 bytes without '/', ':' or spaces")
    }
    return name
}

extension NetworkLink {
    init?(_ message: NetlinkMessage) {
        guard Int(message.type) == RTM_NEWLINK, let header = message.header(ifinfomsg.self) else { return nil }
        let attributes = message.attributes(after: ifinfomsg.self)
        index = header.ifi_index
        flags = header.ifi_flags
        name = attributes.string(Int(IFLA_IFNAME)) ?? ""
        mac = attributes.bytes(Int(IFLA_ADDRESS)).flatMap { MACAddress(bytes: $0) }
        mtu = Int(attributes.uint32(Int(IFLA_MTU)) ?? 0)
        kind = attributes.nested(Int(IFLA_LINKINFO))?.string(Int(IFLA_INFO_KIND))
        master = attributes.uint32(Int(IFLA_MASTER)).map { Int32(bitPattern: $0) }
        peer = kind == "veth" ? attributes.uint32(Int(IFLA_LINK)).map { Int32(bitPattern: $0) } : nil
    }
}
