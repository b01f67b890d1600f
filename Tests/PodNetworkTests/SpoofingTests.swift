import Errors
import Glibc
import Linux
import Runtime
import Testing

@testable import PodNetwork

/// What a guest sends with other addresses than its own reaches nobody, seen from another pod on the same bridge.
@Suite(.timeLimit(.minutes(2))) struct SpoofingTests {
    /// A frame with a number at its end by which it is found again.
    private struct Frame {
        var what: String
        var bytes: [UInt8]
    }

    /// Frames of one pod, from the addresses that the test says.
    private struct Sender {
        let mac: [UInt8]
        let ipv4: [UInt8]
        let ipv6: [UInt8]
        var linkLocal: [UInt8] { [0xFE, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE] + mac[3...] }

        init(_ network: AttachedNetwork) throws {
            mac = try #require(MACAddress(network.mac)).bytes
            let addresses = network.addresses.compactMap { IPPrefix($0)?.address.bytes }
            ipv4 = try #require(addresses.first { $0.count == 4 })
            ipv6 = try #require(addresses.first { $0.count == 16 })
        }

        func ethernet(_ type: UInt16, from source: [UInt8]? = nil, _ payload: [UInt8]) -> [UInt8] {
            [UInt8](repeating: 0xFF, count: 6) + (source ?? mac) + [UInt8(type >> 8), UInt8(type & 0xFF)] + payload
        }

        /// - Parameter offset: of a fragment, in units of 8 bytes.
        func ip(
            from source: [UInt8]? = nil, options: [UInt8] = [], protocol number: UInt8 = 17, offset: UInt8 = 0, _ payload: [UInt8]
        ) -> [UInt8] {
            let (length, payload) = (20 + options.count, payload + Sniffer.trailer)
            var header: [UInt8] =
                [0x40 | UInt8(length / 4), 0, 0, UInt8(length + payload.count), 0, 1, 0, offset, 64, number, 0, 0] + (source ?? ipv4)
            header += [255, 255, 255, 255] + options
            var sum = stride(from: 0, to: header.count, by: 2).reduce(UInt32(0)) { $0 + UInt32(header[$1]) << 8 + UInt32(header[$1 + 1]) }
            while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
            (header[10], header[11]) = (UInt8(~sum >> 8 & 0xFF), UInt8(~sum & 0xFF))
            return ethernet(0x0800, header + payload)
        }

        func ip6(from source: [UInt8]? = nil, next: UInt8, _ payload: [UInt8]) -> [UInt8] {
            let (target, payload): ([UInt8], [UInt8]) = ([0xFF, 2] + [UInt8](repeating: 0, count: 13) + [1], payload + Sniffer.trailer)
            return ethernet(0x86DD, [0x60, 0, 0, 0, 0, UInt8(payload.count), next, 255] + (source ?? ipv6) + target + payload)
        }

        func arp(hardware: [UInt8]? = nil, from source: [UInt8], target: [UInt8]? = nil) -> [UInt8] {
            let (hardware, target) = (hardware ?? mac, target ?? source)
            return ethernet(
                0x0806, [0, 1, 8, 0, 6, 4, 0, 2] + hardware + source + [UInt8](repeating: 0, count: 6) + target + Sniffer.trailer)
        }

        static func udp(from port: UInt16) -> [UInt8] { [UInt8(port >> 8), UInt8(port & 0xFF), 0, 68, 0, 20, 0, 0] }
        static func icmp(_ type: UInt8, target: [UInt8] = []) -> [UInt8] { [type, 0, 0, 0, 0, 0, 0, 0] + target }
    }

    private let other: [UInt8] = [10, 77, 0, 250]
    private let otherMAC: [UInt8] = [2, 0, 0, 0, 0, 0x66]
    private let other6: [UInt8] = [0xFD, 0, 0, 0x77] + [UInt8](repeating: 0, count: 11) + [0xFA]

    private func honest(_ sender: Sender) -> [Frame] {
        [
            Frame(what: "ARP of its own", bytes: sender.arp(from: sender.ipv4)),
            Frame(what: "ARP probe", bytes: sender.arp(from: [0, 0, 0, 0], target: sender.ipv4)),
            Frame(what: "IPv4", bytes: sender.ip(Sender.udp(from: 1000))),
            Frame(what: "IGMP", bytes: sender.ip(options: [0x94, 4, 0, 0], protocol: 2, [0x16, 0, 0, 0, 224, 0, 0, 1])),
            Frame(what: "IPv6", bytes: sender.ip6(next: 17, Sender.udp(from: 1000))),
            Frame(what: "large echo", bytes: sender.ip6(next: 44, [58, 0, 0, 1, 0, 0, 0, 9] + Sender.icmp(128))),
            Frame(what: "IPv6 tunnel", bytes: sender.ip6(next: 60, [41, 0, 4, 1, 4, 1, 0, 0] + [0x60, 0, 0, 0])),
            Frame(
                what: "whether its address is in use",
                bytes: sender.ip6(from: [UInt8](repeating: 0, count: 16), next: 58, Sender.icmp(135, target: sender.ipv6))),
            Frame(what: "IPv6 link-local", bytes: sender.ip6(from: sender.linkLocal, next: 58, Sender.icmp(135, target: other6))),
            Frame(what: "advertisement of its own", bytes: sender.ip6(next: 58, Sender.icmp(136, target: sender.ipv6))),
            Frame(
                what: "listener report",
                bytes: sender.ip6(from: sender.linkLocal, next: 0, [58, 0, 5, 2, 0, 0, 1, 0] + Sender.icmp(143))),
        ]
    }

    private func forged(_ sender: Sender) -> [Frame] {
        [
            Frame(
                what: "another's MAC", bytes: sender.ethernet(0x0800, from: otherMAC, Array(sender.ip(Sender.udp(from: 1)).dropFirst(14)))),
            Frame(what: "another's IPv4", bytes: sender.ip(from: other, Sender.udp(from: 1))),
            Frame(what: "ARP for another", bytes: sender.arp(from: other)),
            Frame(what: "ARP probe for another's address", bytes: sender.arp(from: [0, 0, 0, 0], target: other)),
            Frame(what: "ARP with another's MAC", bytes: sender.arp(hardware: otherMAC, from: sender.ipv4)),
            Frame(what: "another's IPv6", bytes: sender.ip6(from: other6, next: 17, Sender.udp(from: 1))),
            Frame(what: "router advertisement", bytes: sender.ip6(from: sender.linkLocal, next: 58, Sender.icmp(134))),
            Frame(what: "redirect", bytes: sender.ip6(from: sender.linkLocal, next: 58, Sender.icmp(137))),
            Frame(what: "advertisement for another", bytes: sender.ip6(next: 58, Sender.icmp(136, target: other6))),
            Frame(
                what: "advertisement behind an option",
                bytes: sender.ip6(next: 60, [58, 0, 1, 4, 0, 0, 0, 0] + Sender.icmp(136, target: other6))),
            Frame(
                what: "router advertisement behind a long option",
                bytes: sender.ip6(
                    from: sender.linkLocal, next: 0, [58, 1, 0x1E, 12, 0, 0, 0, 0, 143, 0, 0, 0, 0, 0, 0, 0] + Sender.icmp(134))),
            Frame(
                what: "advertisement in a piece", bytes: sender.ip6(next: 44, [58, 0, 0, 0, 0, 0, 0, 9] + Sender.icmp(136, target: other6))),
            Frame(
                what: "advertisement behind two headers",
                bytes: sender.ip6(next: 44, [60, 0, 0, 0, 0, 0, 0, 9, 58, 0, 1, 4, 0, 0, 0, 0] + Sender.icmp(136, target: other6))),
            Frame(
                what: "DHCPv6 answer in a piece",
                bytes: sender.ip6(from: sender.linkLocal, next: 44, [17, 0, 0, 0, 0, 0, 0, 9] + Sender.udp(from: 547))),
            Frame(
                what: "collision with another's address",
                bytes: sender.ip6(from: [UInt8](repeating: 0, count: 16), next: 58, Sender.icmp(135, target: other6))),
            Frame(what: "DHCP answer", bytes: sender.ip(Sender.udp(from: 67))),
            Frame(what: "DHCP answer behind an option", bytes: sender.ip(options: [1, 1, 1, 0], Sender.udp(from: 67))),
            Frame(what: "DHCPv6 answer", bytes: sender.ip6(from: sender.linkLocal, next: 17, Sender.udp(from: 547))),
            Frame(what: "another protocol", bytes: sender.ethernet(0x88B5, [1, 2, 3, 4] + Sniffer.trailer)),
            Frame(what: "a VLAN", bytes: sender.ethernet(0x8100, [0, 5, 8, 0] + Array(sender.ip(Sender.udp(from: 1)).dropFirst(14)))),
        ]
    }

    /// Attaches the pod "a" to a tap, for whose descriptor the caller answers.
    private func attach(_ node: TestNode) async throws -> (tap: Int32, sender: Sender) {
        let pod = node.request("a")
        try await node.networks.createTap(name: "tap-a", uid: 0)
        let tap = try await NetworkNamespace.run(in: node.directory + "/host") { try Tap.attach("tap-a") }
        let network = try await node.attach(pod)
        try await node.networks.join(
            tap: "tap-a", into: pod.namespacePath, with: network.primary, annotations: [PodNetworks.spoofingAnnotation: "true"])
        return (tap, try Sender(network))
    }

    @Test(arguments: [false, true]) func onlyFramesFromItsOwnAddressesLeaveAPod(mayForge: Bool) async throws {
        let node = try TestNode(allowsSpoofing: mayForge)
        let second = node.request("b")
        let (tap, sender) = try await attach(node)
        defer { close(tap) }
        _ = try await node.attach(second)
        let (good, bad) = (honest(sender), forged(sender))
        let sniffer = try await Sniffer(in: second.namespacePath)
        for round in 0..<3 {
            for (index, frame) in (bad + good).enumerated() { send(frame, UInt8(index + 1), UInt8(round), tap) }
        }
        // The bridge keeps the order: what came before the last honest frame has arrived or never will.
        let seen = try sniffer.numbers(until: UInt8(bad.count + good.count), direction: .in)
        for (index, frame) in (bad + good).enumerated() {
            #expect(seen.contains(UInt8(index + 1)) == (index >= bad.count || mayForge), "\(frame.what)")
        }
    }

    /// Seen where they leave the pod: what filters behind that puts pieces together.
    @Test func laterPiecesOfADatagramAreNotReadAsItsHeader() async throws {
        let node = try TestNode(allowsSpoofing: false)
        let (tap, sender) = try await attach(node)
        defer { close(tap) }
        let sniffer = try await Sniffer(in: node.request("a").namespacePath)
        let frames = [
            Frame(what: "first piece", bytes: sender.ip(Sender.udp(from: 67))),
            Frame(what: "later piece", bytes: sender.ip(offset: 100, Sender.udp(from: 67))),
        ]
        for (index, frame) in frames.enumerated() { send(frame, UInt8(index + 1), 2, tap) }
        #expect(try sniffer.numbers(until: 2, direction: .out) == [2])
    }

    /// As QEMU sends: with an empty virtio header in front. The frame's end holds its number.
    private func send(_ frame: Frame, _ number: UInt8, _ round: UInt8, _ tap: Int32) {
        let bytes = [UInt8](repeating: 0, count: 10) + frame.bytes.dropLast(2) + [round, number]
        _ = write(tap, bytes, bytes.count)
    }
}

/// Sees all frames on the interfaces of a namespace.
private struct Sniffer: ~Copyable {
    private static let mark: [UInt8] = [0x53, 0x77, 0x69, 0x66, 0x74]
    /// Ends each frame; round and number stand for the zeros. Part of its payload: the bridge cuts off what is behind that.
    static let trailer = mark + [0, 0]
    private let descriptor: Int32

    /// Of a frame, as its interface sees it.
    enum Direction { case `in`, out }

    init(in namespace: String) async throws {
        descriptor = try await NetworkNamespace.run(in: namespace) {
            let descriptor = socket(AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), Int32(UInt16(3).bigEndian))
            guard descriptor >= 0 else { throw SwiftletError.system("open a packet socket") }
            return descriptor
        }
    }

    deinit { close(descriptor) }

    /// The numbers of marked frames, until this one has come in the last round.
    func numbers(until last: UInt8, direction: Direction) throws -> Set<UInt8> {
        var (seen, buffer) = (Set<UInt8>(), [UInt8](repeating: 0, count: 2048))
        // sockaddr_ll; its byte 10 says whether the frame goes out.
        var (address, size) = (sockaddr_storage(), socklen_t(MemoryLayout<sockaddr_storage>.size))
        while true {
            var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&wait, 1, 10_000) > 0 else { throw SwiftletError(.deadlineExceeded, "frame \(last) did not come; seen \(seen)") }
            let count = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &buffer, buffer.count, 0, $0, &size) }
            }
            let kind = withUnsafeBytes(of: address) { $0[10] }
            guard (kind == 4) == (direction == .out) else { continue }
            guard count > 7, Array(buffer[count - 7..<count - 2]) == Self.mark else { continue }
            seen.insert(buffer[count - 1])
            if buffer[count - 1] == last, buffer[count - 2] == 2 { return seen }
        }
    }
}
