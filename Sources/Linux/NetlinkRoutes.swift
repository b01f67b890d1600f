import CLinux
import Errors
import Glibc

/// A unicast route of the main table.
public struct LinkRoute: Sendable, Hashable {
    /// 0.0.0.0/0 and ::/0 are the defaults.
    public var destination: IPPrefix
    public var gateway: IPAddress?
    /// Index of the outgoing link.
    public var link: Int32
    /// Preferred source address.
    public var source: IPAddress?
    /// RT_SCOPE_*: 0 universe, 253 link. IPv6 knows only 0.
    public var scope: UInt8
    /// Path MTU in bytes; nil is the link's.
    public var mtu: Int?
    /// Lower wins; nil leaves the kernel's own (0, for IPv6 1024).
    public var priority: UInt32?
    /// The gateway is reached over the link although no route of the link covers it.
    public var onLink: Bool
    /// RTPROT_*: 2 the kernel's own, 4 an administrator's.
    public var origin: UInt8

    public init(
        destination: IPPrefix, gateway: IPAddress? = nil, link: Int32, source: IPAddress? = nil, scope: UInt8? = nil, mtu: Int? = nil,
        priority: UInt32? = nil, onLink: Bool = false, origin: UInt8 = 4
    ) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        self.source = source
        self.scope = scope ?? (gateway == nil && !destination.address.isIPv6 ? UInt8(RT_SCOPE_LINK.rawValue) : 0)
        self.mtu = mtu
        self.priority = priority
        self.onLink = onLink
        self.origin = origin
    }
}

extension RouteNetlink {
    /// The main table's unicast routes, IPv4 then IPv6, in the kernel's order.
    public func routes() throws -> [LinkRoute] {
        try dump(RTM_GETROUTE, NetlinkBody(rtmsg()), step: "listing routes").compactMap(LinkRoute.init)
    }

    /// Adds a route; one for the same destination and priority is an `alreadyExists` error, unless `replacing`.
    public func add(route: LinkRoute, replacing: Bool = false) throws {
        try change(
            RTM_NEWROUTE, flags: NLM_F_CREATE | (replacing ? NLM_F_REPLACE : NLM_F_EXCL), try body(route), step: "adding route \(route)")
    }

    public func delete(route: LinkRoute) throws {
        try change(RTM_DELROUTE, try body(route), step: "deleting route \(route)")
    }

    private func body(_ route: LinkRoute) throws -> NetlinkBody {
        let destination = route.destination
        for other in [route.gateway, route.source].compactMap({ $0 }) where other.isIPv6 != destination.address.isIPv6 {
            throw SwiftletError(.invalidArgument, "route \(route) mixes IPv4 and IPv6")
        }
        var header = rtmsg()
        header.rtm_family = destination.address.family
        header.rtm_dst_len = UInt8(destination.length)
        header.rtm_table = UInt8(RT_TABLE_MAIN.rawValue)
        header.rtm_protocol = route.origin
        header.rtm_scope = route.scope
        header.rtm_type = UInt8(RTN_UNICAST)
        header.rtm_flags = route.onLink ? UInt32(RTNH_F_ONLINK) : 0
        var body = NetlinkBody(header)
        if destination.length > 0 { body.attribute(Int(RTA_DST.rawValue), bytes: destination.network.bytes) }
        body.attribute(Int(RTA_OIF.rawValue), UInt32(bitPattern: route.link))
        if let gateway = route.gateway { body.attribute(Int(RTA_GATEWAY.rawValue), bytes: gateway.bytes) }
        if let source = route.source { body.attribute(Int(RTA_PREFSRC.rawValue), bytes: source.bytes) }
        if let priority = route.priority { body.attribute(Int(RTA_PRIORITY.rawValue), priority) }
        if let mtu = route.mtu {
            body.nest(Int(RTA_METRICS.rawValue)) { $0.attribute(Int(RTAX_MTU), UInt32(clamping: mtu)) }
        }
        return body
    }
}

extension LinkRoute {
    init?(_ message: NetlinkMessage) {
        guard Int(message.type) == RTM_NEWROUTE, let header = message.header(rtmsg.self) else { return nil }
        let attributes = message.attributes(after: rtmsg.self)
        let table = attributes.uint32(Int(RTA_TABLE.rawValue)) ?? UInt32(header.rtm_table)
        // Cloned entries are the cache's, not the table's.
        guard table == RT_TABLE_MAIN.rawValue, Int(header.rtm_type) == Int(RTN_UNICAST), header.rtm_flags & UInt32(RTM_F_CLONED) == 0,
            let link = attributes.uint32(Int(RTA_OIF.rawValue))
        else { return nil }
        let any = Int32(header.rtm_family) == AF_INET6 ? IPAddress.anyIPv6 : .anyIPv4
        let address = attributes.address(Int(RTA_DST.rawValue)) ?? any
        guard let destination = IPPrefix(address: address, length: Int(header.rtm_dst_len)) else { return nil }
        self.init(
            destination: destination, gateway: attributes.address(Int(RTA_GATEWAY.rawValue)), link: Int32(bitPattern: link),
            source: attributes.address(Int(RTA_PREFSRC.rawValue)), scope: header.rtm_scope,
            mtu: attributes.nested(Int(RTA_METRICS.rawValue))?.uint32(Int(RTAX_MTU)).map(Int.init),
            priority: attributes.uint32(Int(RTA_PRIORITY.rawValue)), onLink: header.rtm_flags & UInt32(RTNH_F_ONLINK) != 0,
            origin: header.rtm_protocol)
    }
}

extension LinkRoute: CustomStringConvertible {
    public var description: String {
        var text = "\(destination) dev \(link)"
        if let gateway { text += " via \(gateway)" }
        if let source { text += " src \(source)" }
        return text
    }
}
