import Linux
import Runtime
import Support
import Testing

@testable import DHCP

@Suite struct IPv6Tests {
    static let mac: [UInt8] = [2, 0, 0, 0, 0, 7]
    private static let client: [UInt8] = [0, 3, 0, 1] + mac
    private static let linkLocal = IPAddress.linkLocal(mac)

    /// As `bridge` gives it, or Calico.
    static func offer(_ addresses: [String] = ["fd00::5/64"], gateway: String = "fd00::1", routes: [NetworkRoute] = []) throws -> IPv6Offer
    {
        let network = AttachedNetwork(
            interfaceName: "eth0", mac: "02:00:00:00:00:07", mtu: 1450, addresses: ["10.88.0.5/16"] + addresses,
            routes: routes + [NetworkRoute(destination: "::/0", gateway: gateway, interface: "eth0")].filter { !$0.gateway.isEmpty })
        let dns = NetworkDNS(nameservers: ["10.96.0.10", "fd00::10"], search: ["svc.cluster.local", "cluster.local"])
        return try #require(IPv6Offer(network.primary, of: network, dns: dns))
    }

    private static func option(_ code: UInt8, _ value: [UInt8]) -> [UInt8] { [0, code] + IPv6Frame.half(value.count) + value }

    private static func association(_ id: UInt8 = 1, _ addresses: [String] = []) -> [UInt8] {
        let parts = addresses.flatMap { option(5, (IPAddress($0)?.bytes ?? []) + [UInt8](repeating: 0, count: 8)) }
        return option(3, [0, 0, 0, id] + [UInt8](repeating: 0, count: 8) + parts)
    }

    static func frame(_ kind: UInt8, _ options: [UInt8], mac: [UInt8] = mac, source: [UInt8] = linkLocal) -> [UInt8] {
        let group: [UInt8] = [0xFF, 2] + [UInt8](repeating: 0, count: 11) + [1, 0, 2]
        return IPv6Frame(
            from: source, mac, to: group, IPv6Frame.multicastMAC(group), .udp(from: 546, to: 547), [kind, 0xAB, 0xCD, 0xEF] + options
        ).bytes
    }

    private static func answer(_ frame: [UInt8], _ offer: IPv6Offer) throws -> (kind: UInt8, options: [UInt16: [[UInt8]]])? {
        guard let request = DHCPv6Request(frame: frame), let answer = DHCPv6Answer(to: request, offer) else { return nil }
        let datagram = try #require(IPv6Frame(answer.frame))
        #expect(datagram.kind == .udp(from: 547, to: 546) && datagram.destination == linkLocal && datagram.destinationMAC == mac)
        #expect(sum(answer.frame) == 0xFFFF)
        #expect(Array(datagram.payload[1..<4]) == [0xAB, 0xCD, 0xEF])
        return (datagram.payload[0], options(datagram.payload[4...]))
    }

    private static func options(_ bytes: ArraySlice<UInt8>) -> [UInt16: [[UInt8]]] {
        var (found, rest) = ([UInt16: [[UInt8]]](), Array(bytes))
        while rest.count >= 4 {
            let length = Int(rest[2]) << 8 + Int(rest[3])
            found[UInt16(rest[0]) << 8 | UInt16(rest[1]), default: []].append(Array(rest[4..<(4 + length)]))
            rest.removeFirst(4 + length)
        }
        return found
    }

    /// Of a frame with its pseudo-header: FFFFh where the checksum is right.
    static func sum(_ frame: [UInt8]) -> UInt32 {
        let body = Array(frame[54...])
        var bytes = Array(frame[22..<54]) + [0, 0] + IPv6Frame.half(body.count) + [0, 0, 0, frame[20]] + body
        if bytes.count % 2 != 0 { bytes.append(0) }
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) { sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1]) }
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        return sum
    }

    // MARK: DHCPv6

    private static let infinite = [UInt8](repeating: 255, count: 8)

    @Test func aClientGetsThePodsAddressesForEver() throws {
        let offer = try Self.offer()
        let asked = Self.option(1, Self.client) + Self.association()
        let advertised = try #require(try Self.answer(Self.frame(1, asked), offer))
        let granted = try #require(try Self.answer(Self.frame(3, asked + Self.option(2, DHCPv6Answer.server)), offer))
        let rapid = try #require(try Self.answer(Self.frame(1, asked + Self.option(14, [])), offer))
        #expect(advertised.kind == 2 && granted.kind == 7 && rapid.kind == 7 && rapid.options[14] != nil && granted.options[14] == nil)
        #expect(advertised.options[7] == [[255]])
        let address = Self.option(5, try #require(IPAddress("fd00::5")).bytes + Self.infinite)
        let nameserver = try #require(IPAddress("fd00::10")).bytes
        for answer in [advertised, granted, rapid] {
            #expect(answer.options[1] == [Self.client] && answer.options[2] == [DHCPv6Answer.server])
            #expect(answer.options[3] == [[0, 0, 0, 1] + Self.infinite + address])
            #expect(answer.options[23] == [nameserver])
            #expect(answer.options[24]?.first?.starts(with: [3] + Array("svc".utf8) + [7] + Array("cluster".utf8)) == true)
        }
    }

    @Test func addressesOfAnotherNetworkDoNotStayInUse() throws {
        let (offer, id) = (try Self.offer(), Self.option(1, Self.client))
        let confirmed = try #require(try Self.answer(Self.frame(4, id + Self.association(1, ["fd00::5"])), offer))
        let refused = try #require(try Self.answer(Self.frame(4, id + Self.association(1, ["fd00::5", "fd11::5"])), offer))
        #expect(confirmed.options[13] == [[0, 0]] && refused.options[13] == [[0, 4]])
        #expect(try Self.answer(Self.frame(4, id + Self.association()), offer) == nil)
        let rebound = try #require(try Self.answer(Self.frame(6, id + Self.association(1, ["fd11::5"])), offer))
        let former = Self.option(5, try #require(IPAddress("fd11::5")).bytes + [UInt8](repeating: 0, count: 8))
        #expect(rebound.options[3]?.first?.suffix(28) == former[...])
        // There is one set of addresses.
        let two = try #require(try Self.answer(Self.frame(1, id + Self.association(1) + Self.association(2)), offer))
        #expect(two.options[3]?.count == 2 && two.options[3]?[1] == [0, 0, 0, 2] + Self.infinite + Self.option(13, [0, 2]))
    }

    @Test func othersAndOtherServersMessagesAreNotAnswered() throws {
        let (offer, id) = (try Self.offer(), Self.option(1, Self.client) + Self.association())
        let (own, other) = (Self.option(2, DHCPv6Answer.server), Self.option(2, [0, 3, 0, 1, 9, 9, 9, 9, 9, 9]))
        let strange = [(1, id + own), (3, id), (3, id + other), (5, id + other), (8, id), (1, Self.association()), (2, id), (7, id)]
        for (kind, options) in strange {
            #expect(try Self.answer(Self.frame(UInt8(kind), options), offer) == nil, "\(kind)")
        }
        #expect(try Self.answer(Self.frame(1, id, mac: [2, 0, 0, 0, 0, 8]), offer) == nil)
        let global = try #require(IPAddress("fd00::5")).bytes
        #expect(try Self.answer(Self.frame(1, id, source: global), offer) == nil)
        let released = try #require(try Self.answer(Self.frame(8, id + own), offer))
        #expect(released.options[13] == [[0, 0]] && released.options[3] == nil)
        let told = try #require(try Self.answer(Self.frame(11, []), offer))
        #expect(told.options[23] != nil && told.options[3] == nil && told.options[1] == nil)
    }

    // MARK: Routers

    private static func advertised(_ offer: IPv6Offer, _ router: RouterAdvertisement.Router?) throws -> (IPv6Frame, [[UInt8]]) {
        let bytes = RouterAdvertisement(offer: offer, router: router).frame
        let frame = try #require(IPv6Frame(bytes))
        #expect(sum(bytes) == 0xFFFF && frame.kind == .icmp(134) && frame.destination == IPv6Frame.allNodes && bytes.count <= 14 + 1280)
        var (options, rest) = ([[UInt8]](), Array(frame.payload.dropFirst(12)))
        while rest.count >= 8 {
            let length = Int(rest[1]) * 8
            try #require(length > 0 && length <= rest.count)
            options.append(Array(rest[..<length]))
            rest.removeFirst(length)
        }
        #expect(rest.isEmpty)
        return (frame, options)
    }

    @Test func aBridgesGatewayIsADefaultRouterOnceItsMACAddressIsKnown() throws {
        let offer = try Self.offer()
        let (unknown, _) = try Self.advertised(offer, nil)
        #expect(Array(unknown.payload[..<4]) == [64, 0xC0, 0, 0], "addresses by DHCPv6, and no default router")
        let mac: [UInt8] = [0x0A, 0x58, 0, 0, 0, 1]
        let router = RouterAdvertisement.Router(address: IPAddress.linkLocal(mac), mac: mac)
        let (frame, options) = try Self.advertised(offer, router)
        #expect(frame.source == [0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0x08, 0x58, 0, 0xFF, 0xFE, 0, 0, 1])
        #expect(Array(frame.payload[..<4]) == [64, 0xC0, 255, 255])
        let prefix = try #require(IPAddress("fd00::")).bytes
        #expect(options.contains([1, 1] + mac) && options.contains([5, 1, 0, 0, 0, 0, 5, 170]))
        // On the link, and none to make addresses of.
        #expect(options.contains([3, 4, 64, 0x80] + Self.infinite + [0, 0, 0, 0] + prefix))
        #expect(options.contains([25, 3, 0, 0, 255, 255, 255, 255] + (try #require(IPAddress("fd00::10")).bytes)))
        #expect(options.contains { $0[0] == 31 && $0.count % 8 == 0 && Array($0[8..<12]) == [3] + Array("svc".utf8) })
    }

    @Test func aLinkLocalGatewayAnswersForItself() throws {
        let offer = try Self.offer(["fd00::5/128"], gateway: "fe80::1")
        #expect(offer.onLink.isEmpty)
        let (frame, options) = try Self.advertised(offer, .init(address: try #require(offer.gateway).bytes))
        #expect(frame.source == IPAddress("fe80::1")?.bytes && !options.contains { $0[0] == 1 || $0[0] == 3 })
    }

    @Test func routesBehindTheGatewayAreSaidAndOthersNot() throws {
        let routes = [
            NetworkRoute(destination: "fd22::/48", gateway: "fd00::1", interface: "eth0"),
            NetworkRoute(destination: "fd33::/48", gateway: "fd00::2", interface: "eth0"),
            NetworkRoute(destination: "fd44::/64", interface: "eth0"), NetworkRoute(destination: "fd55::/64", interface: "net1"),
        ]
        let offer = try Self.offer(routes: routes)
        #expect(offer.onLink.map(\.description) == ["fd00::/64", "fd44::/64"] && offer.routes.map(\.description) == ["fd22::/48"])
        let (_, options) = try Self.advertised(offer, .init(address: Self.linkLocal, mac: Self.mac))
        #expect(options.filter { $0[0] == 24 } == [[24, 2, 48, 0, 255, 255, 255, 255, 0xFD, 0x22, 0, 0, 0, 0, 0, 0]])
        let only = try Self.offer(gateway: "", routes: [routes[0]])
        #expect(!only.isDefault && only.gateway?.description == "fd00::1")
        let (frame, _) = try Self.advertised(only, .init(address: Self.linkLocal, mac: Self.mac))
        #expect(Array(frame.payload[2..<4]) == [0, 0])
    }

    @Test func whatIsTooMuchIsLeftOut() throws {
        var offer = try Self.offer()
        offer.search = (0..<200).map { "domain-number-\($0).of-a-very-long-name-that-is-allowed.example" } + ["..", "$(reboot)"]
        offer.nameservers = (1...40).compactMap { IPAddress("fd00::\($0)") }
        _ = try Self.advertised(offer, .init(address: Self.linkLocal, mac: Self.mac))
        let id = Self.option(1, Self.client) + Self.association()
        #expect(try Self.answer(Self.frame(1, id), offer)?.options[23]?.first?.count == 8 * 16)
    }

    @Test func theGatewayIsAskedForAsTheMachineWouldAndAnsweredFor() throws {
        let (offer, gateway) = (try Self.offer(), try #require(IPAddress("fd00::1")))
        let question = try #require(Neighbour.solicit(gateway, for: offer))
        let asked = try #require(IPv6Frame(question))
        #expect(Self.sum(question) == 0xFFFF && asked.source == IPAddress("fd00::5")?.bytes && asked.sourceMAC == Self.mac)
        #expect(asked.destination == IPAddress("ff02::1:ff00:1")?.bytes && asked.destinationMAC == [0x33, 0x33, 0xFF, 0, 0, 1])
        let mac: [UInt8] = [0x0A, 0x58, 0, 0, 0, 1]
        func advertisement(_ target: [UInt8], _ options: [UInt8]) -> [UInt8] {
            IPv6Frame(from: gateway.bytes, mac, to: asked.source, Self.mac, .icmp(136), [0x60, 0, 0, 0] + target + options).bytes
        }
        #expect(Neighbour.mac(in: advertisement(gateway.bytes, [2, 1] + mac), of: gateway) == mac)
        for (target, options) in [
            (gateway.bytes, []), (Self.linkLocal, [2, 1] + mac), (gateway.bytes, [2, 0] + mac), (gateway.bytes, [2, 9] + mac),
            (gateway.bytes, [2, 1, 1, 0, 0, 0, 0, 1]), (gateway.bytes, [1, 1] + mac),
        ] { #expect(Neighbour.mac(in: advertisement(target, options), of: gateway) == nil) }

        let router = RouterAdvertisement.Router(address: IPAddress.linkLocal(mac), mac: mac)
        func solicitation(_ target: [UInt8], from source: [UInt8]) throws -> IPv6Frame {
            try #require(IPv6Frame(IPv6Frame(from: source, Self.mac, to: target, mac, .icmp(135), [0, 0, 0, 0] + target).bytes))
        }
        let answer = try #require(Neighbour.answer(try solicitation(router.address, from: Self.linkLocal), router))
        let told = try #require(IPv6Frame(answer))
        #expect(Self.sum(answer) == 0xFFFF && told.source == router.address && told.destination == Self.linkLocal)
        #expect(told.payload == [0xE0, 0, 0, 0] + router.address + [2, 1] + mac)
        #expect(Neighbour.answer(try solicitation(gateway.bytes, from: Self.linkLocal), router) == nil)
        #expect(Neighbour.answer(try solicitation(router.address, from: [UInt8](repeating: 0, count: 16)), router) == nil)
    }

    @Test func noBytesAreReadBeyondTheirEnd() throws {
        let (offer, gateway) = (try Self.offer(), try #require(IPAddress("fd00::1")))
        let id = Self.option(1, Self.client) + Self.association(1, ["fd00::5"]) + Self.option(2, DHCPv6Answer.server)
        let first = Self.frame(1, Self.option(1, Self.client) + Self.association())
        let seeds = [Self.frame(3, id), first, Neighbour.solicit(gateway, for: offer) ?? []]
        for length in 0..<seeds[0].count { #expect(DHCPv6Request(frame: Array(seeds[0].prefix(length))) == nil) }
        var random = SplitMix(seed: 12)
        for round in 0..<20_000 {
            var bytes = seeds[round % seeds.count]
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = Neighbour.mac(in: bytes, of: gateway)
            if let request = DHCPv6Request(frame: bytes), let answer = DHCPv6Answer(to: request, offer) {
                #expect(answer.frame.count <= 14 + 1500)
            }
        }
    }
}
