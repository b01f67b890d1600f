import Linux

/// An Ethernet frame of IPv6 with UDP or ICMPv6 right behind its header, as far as anything here reads or writes them.
struct IPv6Frame {
    enum Kind: Equatable {
        case udp(from: UInt16, to: UInt16)
        /// RFC 4861: type.
        case icmp(UInt8)
    }

    static let headerLength = 54
    static let allNodes: [UInt8] = [0xFF, 2] + [UInt8](repeating: 0, count: 13) + [1]

    var destinationMAC: [UInt8]
    var sourceMAC: [UInt8]
    var source: [UInt8]
    var destination: [UInt8]
    var kind: Kind
    /// Behind the ports, length and checksum of UDP; behind type, code and checksum of ICMPv6.
    var payload: [UInt8]

    init(from source: [UInt8], _ sourceMAC: [UInt8], to destination: [UInt8], _ destinationMAC: [UInt8], _ kind: Kind, _ payload: [UInt8]) {
        (self.source, self.sourceMAC, self.destination, self.destinationMAC) = (source, sourceMAC, destination, destinationMAC)
        (self.kind, self.payload) = (kind, payload)
    }

    /// Reads a frame; nil for all that is not whole. Checksums are not looked at: what a guest's kernel sends by virtio may have none yet.
    init?(_ frame: [UInt8]) {
        guard frame.count >= Self.headerLength + 8, frame[12] == 0x86, frame[13] == 0xDD, frame[14] >> 4 == 6 else { return nil }
        let end = Self.headerLength + Int(frame[18]) << 8 + Int(frame[19])
        guard end >= Self.headerLength + 8, end <= frame.count else { return nil }
        (destinationMAC, sourceMAC) = (Array(frame[0..<6]), Array(frame[6..<12]))
        (source, destination) = (Array(frame[22..<38]), Array(frame[38..<54]))
        func half(_ at: Int) -> UInt16 { UInt16(frame[at]) << 8 | UInt16(frame[at + 1]) }
        switch frame[20] {
        case 17:
            let length = Int(half(58))
            guard length >= 8, Self.headerLength + length <= end else { return nil }
            kind = .udp(from: half(54), to: half(56))
            payload = Array(frame[62..<(Self.headerLength + length)])
        case 58:
            // Of neighbours on the link alone (RFC 4861, section 6.1): no router has sent it on.
            guard frame[21] == 255, frame[55] == 0 else { return nil }
            kind = .icmp(frame[54])
            payload = Array(frame[58..<end])
        default: return nil
        }
    }

    var bytes: [UInt8] {
        let (head, next): ([UInt8], UInt8) =
            switch kind {
            case .udp(let from, let to): (Self.half(Int(from)) + Self.half(Int(to)) + Self.half(8 + payload.count) + [0, 0], 17)
            case .icmp(let type): ([type, 0, 0, 0], 58)
            }
        var body = head + payload
        let pseudo = source + destination + [0, 0] + Self.half(body.count) + [0, 0, 0, next]
        let sum = Self.checksum(pseudo + body + (body.count % 2 == 0 ? [] : [0]))
        let at = next == 17 ? 6 : 2
        // 0 would mean that there is none, which UDP over IPv6 does not allow.
        body.replaceSubrange(at..<(at + 2), with: sum == 0 ? [0xFF, 0xFF] : Self.half(sum))
        let ip: [UInt8] = [0x60, 0, 0, 0] + Self.half(body.count) + [next, 255] + source + destination
        return destinationMAC + sourceMAC + [0x86, 0xDD] + ip + body
    }

    static func half(_ value: Int) -> [UInt8] { [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)] }
    static func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - $0 * 8)) } }

    /// RFC 1071.
    private static func checksum(_ bytes: [UInt8]) -> Int {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count - 1, by: 2) { sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1]) }
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        return Int(~sum & 0xFFFF)
    }

    /// Of a multicast group on Ethernet (RFC 2464).
    static func multicastMAC(_ group: [UInt8]) -> [UInt8] { [0x33, 0x33] + group.suffix(4) }

    /// Whom a neighbour's solicitation is sent to.
    static func solicitedNode(_ target: [UInt8]) -> [UInt8] { [0xFF, 2] + [UInt8](repeating: 0, count: 9) + [1, 0xFF] + target.suffix(3) }
}
