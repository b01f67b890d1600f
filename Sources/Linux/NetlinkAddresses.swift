import CLinux
import Errors
import Glibc

/// An address on an interface.
public struct LinkAddress: Sendable, Hashable {
    public var link: Int32
    public var prefix: IPPrefix
    /// IFA_F_* of linux/if_addr.h.
    public var flags: UInt32
    /// RT_SCOPE_* of linux/rtnetlink.h: 0 universe, 253 link, 254 host.
    public var scope: UInt8
}

extension RouteNetlink {
    /// The addresses of one link, or of all, in the kernel's order: the primary one of a link first.
    public func addresses(link: Int32? = nil) throws -> [LinkAddress] {
        try dump(RTM_GETADDR, NetlinkBody(ifaddrmsg()), step: "listing network addresses").compactMap(LinkAddress.init)
            .filter { link == nil || $0.link == link }
    }

    /// Adds an address. One that is there already is an `alreadyExists` error.
    ///
    /// IPv6 addresses skip duplicate address detection, so they are usable at once: whoever assigns them knows that they
    /// are unique.
    public func add(address prefix: IPPrefix, link: Int32) throws {
        try change(
            RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, body(prefix, link: link, adding: true),
            step: "adding address \(prefix) to network link \(link)")
    }

    public func delete(address prefix: IPPrefix, link: Int32) throws {
        try change(RTM_DELADDR, body(prefix, link: link, adding: false), step: "deleting address \(prefix) of network link \(link)")
    }

    private func body(_ prefix: IPPrefix, link: Int32, adding: Bool) -> NetlinkBody {
        var header = ifaddrmsg()
        header.ifa_family = prefix.address.family
        header.ifa_prefixlen = UInt8(prefix.length)
        header.ifa_index = UInt32(bitPattern: link)
        if adding {
            header.ifa_scope = prefix.address.isLinkLocal ? UInt8(RT_SCOPE_LINK.rawValue) : UInt8(RT_SCOPE_UNIVERSE.rawValue)
            header.ifa_flags = prefix.address.isIPv6 ? UInt8(IFA_F_NODAD) : 0
        }
        var body = NetlinkBody(header)
        body.attribute(Int(IFA_LOCAL), bytes: prefix.address.bytes)
        body.attribute(Int(IFA_ADDRESS), bytes: prefix.address.bytes)
        return body
    }
}

extension LinkAddress {
    init?(_ message: NetlinkMessage) {
        guard Int(message.type) == RTM_NEWADDR, let header = message.header(ifaddrmsg.self) else { return nil }
        let attributes = message.attributes(after: ifaddrmsg.self)
        // On point-to-point links IFA_ADDRESS is the other side.
        guard let address = attributes.address(Int(IFA_LOCAL)) ?? attributes.address(Int(IFA_ADDRESS)),
            let prefix = IPPrefix(address: address, length: Int(header.ifa_prefixlen))
        else { return nil }
        link = Int32(bitPattern: header.ifa_index)
        self.prefix = prefix
        flags = attributes.uint32(Int(IFA_FLAGS)) ?? UInt32(header.ifa_flags)
        scope = header.ifa_scope
    }
}
