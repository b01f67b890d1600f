import Linux

/// What a router says to a machine (RFC 4861, section 4.2): that its addresses come by DHCPv6, what is on the link, and who the default
/// router is. No prefix is for addresses that the machine makes itself: frames from others than the pod's do not leave it.
struct RouterAdvertisement: Sendable {
    /// Who sends it and is the default router; nil: there is none, or none is known yet.
    struct Router: Sendable, Equatable {
        /// Link-local.
        var address: [UInt8]
        /// Nil where the router itself answers who asks for it.
        var mac: [UInt8]?
    }

    /// Of ICMPv6.
    static let type: UInt8 = 134
    /// Seconds: the most that there is (RFC 8319), for the times when nobody sends any.
    private static let lifetime = 65535
    private static let infinity = IPv6Frame.word(.max)
    /// Bytes of a frame's payload, within the least that IPv6 carries in one piece.
    private static let room = 1200

    let offer: IPv6Offer
    let router: Router?

    /// To all nodes: there is one behind the tap.
    var frame: [UInt8] {
        let isDefault = offer.isDefault && router != nil
        // Hop limit 64; addresses (M) and all else (O) by DHCPv6; no word about reachability.
        var message: [UInt8] = [64, 0xC0] + IPv6Frame.half(isDefault ? Self.lifetime : 0) + [UInt8](repeating: 0, count: 8)
        for option in options where message.count + option.count <= Self.room { message += option }
        let mac = router?.mac ?? DHCPAnswer.serverMAC
        return IPv6Frame(
            from: router?.address ?? DHCPv6Answer.address, mac, to: IPv6Frame.allNodes, IPv6Frame.multicastMAC(IPv6Frame.allNodes),
            .icmp(Self.type), message
        ).bytes
    }

    private var options: [[UInt8]] {
        var options: [[UInt8]] = []
        if let mac = router?.mac { options.append([1, 1] + mac) }
        if (1280...Int(UInt16.max)).contains(offer.mtu) { options.append([5, 1, 0, 0] + IPv6Frame.word(UInt32(offer.mtu))) }
        for prefix in offer.onLink.prefix(8) {
            options.append(
                [3, 4, UInt8(prefix.length), 0x80] + Self.infinity + Self.infinity + [0, 0, 0, 0] + prefix.network.bytes)
        }
        let nameservers = offer.nameservers.prefix(8)
        if !nameservers.isEmpty {
            options.append([25, UInt8(1 + 2 * nameservers.count), 0, 0] + Self.infinity + nameservers.flatMap(\.bytes))
        }
        if router != nil {
            // RFC 4191.
            for route in offer.routes.prefix(8) {
                let words = (route.length + 63) / 64
                options.append([24, UInt8(1 + words), UInt8(route.length), 0] + Self.infinity + route.network.bytes.prefix(words * 8))
            }
        }
        let search = offer.search.prefix(16).compactMap(DHCPAnswer.name).flatMap { $0 }
        if !search.isEmpty {
            let padded = search + [UInt8](repeating: 0, count: (8 - search.count % 8) % 8)
            // RFC 8106; the length is in units of eight bytes, of which a byte holds 255.
            if padded.count <= 254 * 8 { options.append([31, UInt8(1 + padded.count / 8), 0, 0] + Self.infinity + padded) }
        }
        return options
    }
}

/// Neighbours' messages (RFC 4861, sections 4.3 and 4.4).
enum Neighbour {
    static let routerSolicitation: UInt8 = 133
    static let solicitation: UInt8 = 135
    static let advertisement: UInt8 = 136

    /// Asks for the gateway's MAC address as the machine would.
    static func solicit(_ gateway: IPAddress, for offer: IPv6Offer) -> [UInt8]? {
        guard gateway.isIPv6, let own = offer.addresses.first?.address.bytes else { return nil }
        let group = IPv6Frame.solicitedNode(gateway.bytes)
        return IPv6Frame(
            from: own, offer.mac.bytes, to: group, IPv6Frame.multicastMAC(group), .icmp(solicitation),
            [0, 0, 0, 0] + gateway.bytes + [1, 1] + offer.mac.bytes
        ).bytes
    }

    /// The MAC address that an answer of the gateway's names.
    static func mac(in frame: [UInt8], of gateway: IPAddress) -> [UInt8]? {
        guard let frame = IPv6Frame(frame), frame.kind == .icmp(advertisement), frame.payload.count >= 20,
            Array(frame.payload[4..<20]) == gateway.bytes
        else { return nil }
        var options = frame.payload.dropFirst(20)
        while options.count >= 8 {
            let head = Array(options.prefix(2))
            guard head[1] > 0, options.count >= Int(head[1]) * 8 else { return nil }
            let mac = Array(options.dropFirst(2).prefix(6))
            // Of one machine, no group's.
            if head[0] == 2, head[1] == 1, mac[0] & 1 == 0, mac.contains(where: { $0 != 0 }) { return mac }
            options = options.dropFirst(Int(head[1]) * 8)
        }
        return nil
    }

    /// What a machine that asks for the router is told; nil for another question.
    static func answer(_ frame: IPv6Frame, _ router: RouterAdvertisement.Router) -> [UInt8]? {
        guard frame.kind == .icmp(solicitation), frame.payload.count >= 20, Array(frame.payload[4..<20]) == router.address,
            let mac = router.mac, frame.source.contains(where: { $0 != 0 })
        else { return nil }
        // A router, asked, and to be believed before what was known.
        return IPv6Frame(
            from: router.address, mac, to: frame.source, frame.sourceMAC, .icmp(advertisement),
            [0xE0, 0, 0, 0] + router.address + [2, 1] + mac
        ).bytes
    }
}
