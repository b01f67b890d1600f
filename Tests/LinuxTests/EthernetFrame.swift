/// Handcrafted Ethernet frames.
enum EthernetFrame {
    /// An ARP request "who has `target`, tell `sender`", broadcast.
    static func arpRequest(from mac: [UInt8], sender: [UInt8], target: [UInt8]) -> [UInt8] {
        let header: [UInt8] = [UInt8](repeating: 0xFF, count: 6) + mac + [0x08, 0x06]
        return header + [0, 1, 8, 0, 6, 4, 0, 1] + mac + sender + [UInt8](repeating: 0, count: 6) + target
    }

    /// An ICMP echo request with 32 bytes of data.
    static func ping(from mac: [UInt8], to gateway: [UInt8], source: [UInt8], destination: [UInt8]) -> [UInt8] {
        var icmp: [UInt8] = [8, 0, 0, 0, 0x12, 0x34, 0, 1] + [UInt8](repeating: 0x61, count: 32)
        let sum = checksum(icmp)
        icmp.replaceSubrange(2..<4, with: sum)
        var ip: [UInt8] = [0x45, 0, 0, UInt8(20 + icmp.count), 0, 1, 0, 0, 64, 1, 0, 0] + source + destination
        ip.replaceSubrange(10..<12, with: checksum(ip))
        return gateway + mac + [0x08, 0x00] + ip + icmp
    }

    static func checksum(_ bytes: [UInt8]) -> [UInt8] {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count - 1, by: 2) { sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1]) }
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        let inverted = ~UInt16(sum)
        return [UInt8(inverted >> 8), UInt8(inverted & 0xFF)]
    }
}
