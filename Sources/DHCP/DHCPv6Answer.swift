import Linux

/// What a server with the addresses of one machine says to its client (RFC 8415, section 18.3).
struct DHCPv6Answer: Sendable, Equatable {
    enum Kind: UInt8, Sendable {
        case advertise = 2
        case reply = 7
    }

    /// RFC 8415, section 21.13.
    private enum Status {
        static let success = 0
        static let noAddresses = 2
        static let notOnLink = 4
    }

    private typealias Option = DHCPv6Request.Option

    /// DUID-LL of Ethernet.
    static let server: [UInt8] = [0, 3, 0, 1] + DHCPAnswer.serverMAC
    static let address = IPAddress.linkLocal(DHCPAnswer.serverMAC)
    private static let infinity: UInt32 = .max

    let kind: Kind
    private let request: DHCPv6Request
    private let offer: IPv6Offer

    /// Nil: the message is not for this server, or has no answer.
    init?(to request: DHCPv6Request, _ offer: IPv6Offer) {
        guard request.mac == offer.mac else { return nil }
        switch request.kind {
        case .solicit, .confirm, .rebind:
            guard request.server == nil, !request.client.isEmpty else { return nil }
        case .request, .renew, .release, .decline:
            guard request.server == Self.server, !request.client.isEmpty else { return nil }
        case .informationRequest:
            guard request.server.map({ $0 == Self.server }) ?? true, request.associations.isEmpty else { return nil }
        }
        // Of no address there is nothing to say (section 18.3.3).
        if request.kind == .confirm, request.associations.allSatisfy(\.addresses.isEmpty) { return nil }
        kind = request.kind == .solicit && !request.isRapidCommitWanted ? .advertise : .reply
        (self.request, self.offer) = (request, offer)
    }

    /// The answer as an Ethernet frame.
    var frame: [UInt8] {
        IPv6Frame(
            from: Self.address, DHCPAnswer.serverMAC, to: request.source.bytes, request.mac.bytes, .udp(from: 547, to: 546), message
        ).bytes
    }

    private var message: [UInt8] {
        var bytes = [kind.rawValue] + request.transaction + Self.option(Option.server, Self.server)
        if !request.client.isEmpty { bytes += Self.option(Option.client, request.client) }
        switch request.kind {
        case .confirm:
            let wanted = request.associations.flatMap(\.addresses)
            return bytes + Self.status(wanted.allSatisfy(own) ? Status.success : Status.notOnLink)
        // The addresses stay the machine's whatever it says of them.
        case .release, .decline: return bytes + Self.status(Status.success)
        case .solicit:
            // Nobody else's offer is waited for.
            bytes += request.isRapidCommitWanted ? Self.option(Option.rapidCommit, []) : Self.option(Option.preference, [255])
        case .request, .renew, .rebind, .informationRequest: break
        }
        for (index, association) in request.associations.enumerated() { bytes += self.association(association, isFirst: index == 0) }
        let nameservers = offer.nameservers.prefix(8).flatMap(\.bytes)
        if !nameservers.isEmpty { bytes += Self.option(Option.nameservers, nameservers) }
        let search = offer.search.prefix(32).compactMap(DHCPAnswer.name).flatMap { $0 }
        // Within the least that IPv6 carries in one piece.
        if !search.isEmpty, bytes.count + search.count <= 1200 { bytes += Self.option(Option.search, search) }
        return bytes
    }

    private func own(_ address: IPAddress) -> Bool { offer.addresses.contains { $0.address == address } }

    /// The machine has one set of addresses: they are the first association's.
    private func association(_ association: DHCPv6Request.Association, isFirst: Bool) -> [UInt8] {
        func address(_ address: IPAddress, _ seconds: UInt32) -> [UInt8] {
            Self.option(Option.address, address.bytes + IPv6Frame.word(seconds) + IPv6Frame.word(seconds))
        }
        var parts: [UInt8] = []
        if isFirst { parts += offer.addresses.flatMap { address($0.address, Self.infinity) } }
        // Those of a former network must not stay in use.
        for former in association.addresses where !own(former) || !isFirst { parts += address(former, 0) }
        if !isFirst { parts += Self.status(Status.noAddresses) }
        return Self.option(Option.association, association.id + IPv6Frame.word(Self.infinity) + IPv6Frame.word(Self.infinity) + parts)
    }

    private static func status(_ code: Int) -> [UInt8] { option(Option.status, IPv6Frame.half(code)) }

    private static func option(_ code: UInt16, _ value: [UInt8]) -> [UInt8] {
        IPv6Frame.half(Int(code)) + IPv6Frame.half(value.count) + value
    }
}
