import Linux

/// A message of a DHCPv4 client (RFC 2131), as far as an answer depends on it.
struct DHCPRequest: Sendable, Equatable {
    /// RFC 2132, option 53.
    enum Kind: UInt8, Sendable {
        case discover = 1
        case request = 3
        case decline = 4
        case release = 7
        case inform = 8
    }

    var kind: Kind
    /// Four bytes each, as they came.
    var transaction: [UInt8]
    var isBroadcastWanted: Bool
    var mac: MACAddress
    /// `ciaddr`: the address that the client has already; nil where it is 0.0.0.0.
    var clientAddress: IPAddress?
    var requestedAddress: IPAddress?
    /// Which server's offer the client takes.
    var server: IPAddress?
    /// Bytes of a datagram that the client takes, 576 at least.
    var largestDatagram: Int

    /// Of BOOTP's header, up to and with the magic number.
    static let headerLength = 240
    static let magic: [UInt8] = [0x63, 0x82, 0x53, 0x63]

    /// Reads an Ethernet frame; nil for all that is no whole message of a client to a server.
    init?(frame: some Collection<UInt8>) {
        let frame = Array(frame)
        // Ethernet, IPv4 without fragments, UDP to port 67.
        guard frame.count >= 14 + 20 + 8 + Self.headerLength, frame[12] == 0x08, frame[13] == 0, frame[14] >> 4 == 4, frame[23] == 17,
            frame[20] & 0x3F == 0, frame[21] == 0
        else { return nil }
        let length = Int(frame[14] & 0x0F) * 4
        let udp = 14 + length
        guard length >= 20, frame.count >= udp + 8 + Self.headerLength, frame[udp + 2] == 0, frame[udp + 3] == 67 else { return nil }
        // What the headers say of lengths: padding of short frames is not part of the message, and nothing lies behind the frame.
        let end = udp + Int(frame[udp + 4]) << 8 + Int(frame[udp + 5])
        guard end <= frame.count, end >= udp + 8 + Self.headerLength else { return nil }
        self.init(payload: frame[(udp + 8)..<end])
    }

    /// Reads a datagram's payload.
    init?(payload: ArraySlice<UInt8>) {
        let bytes = Array(payload)
        // BOOTREQUEST, Ethernet, six bytes of address.
        guard bytes.count >= Self.headerLength, bytes[0] == 1, bytes[1] == 1, bytes[2] == 6,
            Array(bytes[236..<240]) == Self.magic, let mac = MACAddress(bytes: bytes[28..<34])
        else { return nil }
        transaction = Array(bytes[4..<8])
        isBroadcastWanted = bytes[10] & 0x80 != 0
        self.mac = mac
        clientAddress = Self.address(bytes[12..<16])
        requestedAddress = nil
        server = nil
        largestDatagram = 576
        var kind: Kind?
        var index = Self.headerLength
        while index < bytes.count, bytes[index] != 255 {
            let code = bytes[index]
            index += 1
            if code == 0 { continue }
            guard index < bytes.count, index + 1 + Int(bytes[index]) <= bytes.count else { return nil }
            let value = bytes[(index + 1)..<(index + 1 + Int(bytes[index]))]
            index += 1 + value.count
            switch code {
            case 50 where value.count == 4: requestedAddress = Self.address(value)
            case 53 where value.count == 1: kind = value.first.flatMap { Kind(rawValue: $0) }
            case 54 where value.count == 4: server = Self.address(value)
            case 57 where value.count == 2: largestDatagram = max(576, value.reduce(0) { $0 << 8 | Int($1) })
            default: break
            }
        }
        guard let kind else { return nil }
        self.kind = kind
    }

    private static func address(_ bytes: ArraySlice<UInt8>) -> IPAddress? {
        IPAddress(bytes: bytes).flatMap { $0.isUnspecified ? nil : $0 }
    }
}
