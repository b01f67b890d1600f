import Linux

/// What a server with one address to give says to a client (RFC 2131, section 4.3).
struct DHCPAnswer: Sendable, Equatable {
    enum Kind: UInt8, Sendable {
        case offer = 2
        case acknowledgement = 5
        case refusal = 6
    }

    /// Link-local, so that it is no address of the pod's network.
    static let server: [UInt8] = [169, 254, 1, 1]
    /// Locally administered.
    static let serverMAC: [UInt8] = [0xFE, 0, 0, 0, 0, 1]

    let kind: Kind
    private let request: DHCPRequest
    private let offer: AddressOffer

    /// Nil: the message is not for this server, or wants no answer (RELEASE, DECLINE, another server's offer taken).
    init?(to request: DHCPRequest, _ offer: AddressOffer) {
        guard request.mac == offer.mac else { return nil }
        switch request.kind {
        case .discover: kind = .offer
        case .inform where request.clientAddress != nil: kind = .acknowledgement
        case .request:
            if let server = request.server, server.bytes != Self.server { return nil }
            guard let wanted = request.requestedAddress ?? request.clientAddress else { return nil }
            // A lease of a former network must not stay in use (INIT-REBOOT).
            kind = wanted == offer.address.address ? .acknowledgement : .refusal
        case .inform, .decline, .release: return nil
        }
        self.request = request
        self.offer = offer
    }

    /// The answer as an Ethernet frame.
    var frame: [UInt8] {
        let message = self.message
        let broadcast: [UInt8] = [255, 255, 255, 255]
        let destination: [UInt8]
        if kind == .refusal {
            destination = broadcast
        } else if let address = request.clientAddress {
            destination = address.bytes
        } else {
            destination = request.isBroadcastWanted ? broadcast : offer.address.address.bytes
        }
        let length = 8 + message.count
        // Without a checksum, which UDP over IPv4 allows.
        let udp: [UInt8] = [0, 67, 0, 68] + Self.number(length) + [0, 0]
        var ip: [UInt8] = [0x45, 0x10] + Self.number(20 + length) + [0, 0, 0, 0, 64, 17, 0, 0] + Self.server + destination
        ip.replaceSubrange(10..<12, with: Self.checksum(ip))
        let mac = destination == broadcast ? [UInt8](repeating: 0xFF, count: 6) : request.mac.bytes
        return mac + Self.serverMAC + [0x08, 0x00] + ip + udp + message
    }

    private var message: [UInt8] {
        let nothing: [UInt8] = [0, 0, 0, 0]
        let isRefusal = kind == .refusal
        var bytes: [UInt8] = [2, 1, 6, 0] + request.transaction + [0, 0, isRefusal || request.isBroadcastWanted ? 0x80 : 0, 0]
        bytes += isRefusal ? nothing : request.clientAddress?.bytes ?? nothing
        bytes += isRefusal || request.kind == .inform ? nothing : offer.address.address.bytes
        bytes += Self.server + nothing + request.mac.bytes + [UInt8](repeating: 0, count: 10 + 64 + 128) + DHCPRequest.magic
        bytes += Self.option(53, [kind.rawValue]) + Self.option(54, Self.server)
        guard !isRefusal else { return bytes + [255] }
        // IP and UDP take 28 bytes, the end one. What the client has no room for is left out, the least needed first.
        let room = min(request.largestDatagram, 1500) - 28 - 1
        for option in options where bytes.count + option.count <= room { bytes += option }
        return bytes + [255]
    }

    private var options: [[UInt8]] {
        let mask = (0..<4).map { UInt8(truncatingIfNeeded: 0xFF00 >> min(max(offer.address.length - $0 * 8, 0), 8)) }
        var options: [[UInt8]] = []
        // INFORM asks for no lease: RFC 2131, section 4.3.5.
        if request.kind != .inform { options.append(Self.option(51, [255, 255, 255, 255])) }
        options.append(Self.option(1, mask))
        if let gateway = offer.gateway { options.append(Self.option(3, gateway.bytes)) }
        let routes = offer.routes.flatMap { route in
            [UInt8(route.destination.length)] + route.destination.network.bytes.prefix((route.destination.length + 7) / 8)
                + route.gateway.bytes
        }
        options.append(Self.option(121, routes))
        options.append(Self.option(6, offer.nameservers.prefix(8).flatMap(\.bytes)))
        if (68...Int(UInt16.max)).contains(offer.mtu) { options.append(Self.option(26, Self.number(offer.mtu))) }
        options.append(Self.option(12, Self.label(offer.hostname) ? Array(offer.hostname.utf8) : []))
        options.append(Self.option(15, offer.domain.flatMap { Self.name($0) == nil ? nil : Array($0.utf8) } ?? []))
        options.append(Self.option(119, offer.search.compactMap(Self.name).flatMap { $0 }))
        return options
    }

    /// Empty for an empty value; in parts where one option cannot hold it (RFC 3396).
    private static func option(_ code: UInt8, _ value: [UInt8]) -> [UInt8] {
        stride(from: 0, to: value.count, by: 255).flatMap { start in
            let part = value[start..<min(start + 255, value.count)]
            return [code, UInt8(part.count)] + part
        }
    }

    /// A domain's labels (RFC 1035); nil where it is no domain's name.
    static func name(_ text: String) -> [UInt8]? {
        let labels = (text.hasSuffix(".") ? text.dropLast() : Substring(text)).split(separator: ".", omittingEmptySubsequences: false)
        guard text.utf8.count <= 253, labels.allSatisfy({ label(String($0)) }) else { return nil }
        return labels.flatMap { [UInt8($0.utf8.count)] + $0.utf8 } + [0]
    }

    /// What clients' scripts may be given without harm.
    private static func label(_ text: String) -> Bool {
        (1...63).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                    true
                default: byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
                }
            }
    }

    private static func number(_ value: Int) -> [UInt8] { [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)] }

    /// RFC 1071, of an even number of bytes.
    private static func checksum(_ bytes: [UInt8]) -> [UInt8] {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count - 1, by: 2) { sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1]) }
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        return number(Int(~sum & 0xFFFF))
    }
}
