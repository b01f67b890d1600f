import Linux

/// A message of a DHCPv6 client (RFC 8415), as far as an answer depends on it.
struct DHCPv6Request: Sendable, Equatable {
    /// RFC 8415, section 7.3.
    enum Kind: UInt8, Sendable {
        case solicit = 1
        case request = 3
        case confirm = 4
        case renew = 5
        case rebind = 6
        case release = 8
        case decline = 9
        case informationRequest = 11
    }

    /// An association of addresses, by what the client calls it.
    struct Association: Sendable, Equatable {
        var id: [UInt8]
        var addresses: [IPAddress]
    }

    /// RFC 8415, section 21; RFC 3646.
    enum Option {
        static let client: UInt16 = 1
        static let server: UInt16 = 2
        static let association: UInt16 = 3
        static let address: UInt16 = 5
        static let preference: UInt16 = 7
        static let status: UInt16 = 13
        static let rapidCommit: UInt16 = 14
        static let nameservers: UInt16 = 23
        static let search: UInt16 = 24
    }

    var kind: Kind
    /// Three bytes, as they came.
    var transaction: [UInt8]
    var mac: MACAddress
    /// Link-local.
    var source: IPAddress
    /// As it came; empty where the client says none.
    var client: [UInt8]
    var server: [UInt8]?
    var associations: [Association]
    var isRapidCommitWanted: Bool

    /// Bytes of a DUID: RFC 8415, section 11.1.
    private static let longestDUID = 130
    private static let mostAssociations = 8
    private static let mostAddresses = 16

    /// Reads an Ethernet frame; nil for all that is no whole message of a client on the link to a server.
    init?(frame: [UInt8]) {
        guard let datagram = IPv6Frame(frame), case .udp(_, 547) = datagram.kind, let mac = MACAddress(bytes: datagram.sourceMAC),
            let source = IPAddress(bytes: datagram.source), source.isLinkLocal
        else { return nil }
        let bytes = datagram.payload
        guard bytes.count >= 4, let kind = Kind(rawValue: bytes[0]) else { return nil }
        (self.kind, self.mac, self.source, transaction) = (kind, mac, source, Array(bytes[1..<4]))
        (client, server, associations, isRapidCommitWanted) = ([], nil, [], false)
        guard let options = Self.options(bytes[4...]) else { return nil }
        for (code, value) in options {
            switch code {
            case Option.client:
                guard (3...Self.longestDUID).contains(value.count) else { return nil }
                client = Array(value)
            case Option.server: server = Array(value)
            case Option.rapidCommit: isRapidCommitWanted = true
            case Option.association:
                guard value.count >= 12, let parts = Self.options(value.dropFirst(12)) else { return nil }
                guard associations.count < Self.mostAssociations else { continue }
                let addresses = parts.filter { $0.code == Option.address && $0.value.count >= 24 }.prefix(Self.mostAddresses)
                    .compactMap { IPAddress(bytes: $0.value.prefix(16)) }
                associations.append(Association(id: Array(value.prefix(4)), addresses: addresses))
            default: break
            }
        }
    }

    /// Nil where the last one is not whole.
    private static func options(_ bytes: ArraySlice<UInt8>) -> [(code: UInt16, value: ArraySlice<UInt8>)]? {
        var found: [(code: UInt16, value: ArraySlice<UInt8>)] = []
        var rest = bytes
        while !rest.isEmpty {
            guard rest.count >= 4 else { return nil }
            let head = Array(rest.prefix(4))
            let length = Int(head[2]) << 8 + Int(head[3])
            rest = rest.dropFirst(4)
            guard rest.count >= length else { return nil }
            found.append((UInt16(head[0]) << 8 | UInt16(head[1]), rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        return found
    }
}
