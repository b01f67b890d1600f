import Linux
import Runtime
import Support
import Testing

@testable import DHCP

@Suite struct AnswerTests {
    static let mac: [UInt8] = [2, 0, 0, 0, 0, 7]

    /// As a CNI plug-in's result has it: `bridge`'s by default.
    static func offer(_ address: String = "10.88.0.5/16", routes: [NetworkRoute]? = nil) throws -> AddressOffer {
        let network = AttachedNetwork(
            interfaceName: "eth0", mac: "02:00:00:00:00:07", mtu: 1450, addresses: ["fd00::5/64", address].filter { !$0.isEmpty },
            routes: routes ?? [
                NetworkRoute(destination: "10.88.0.0/16", interface: "eth0", scope: 253),
                NetworkRoute(destination: "0.0.0.0/0", gateway: "10.88.0.1", interface: "eth0"),
            ])
        let dns = NetworkDNS(nameservers: ["10.96.0.10", "fd00::10"], search: ["shop.svc.cluster.local", "cluster.local"])
        return try #require(AddressOffer(network.primary, of: network, dns: dns, hostname: "web-0"))
    }

    /// A client's frame with these options.
    static func frame(_ options: [UInt8], mac: [UInt8] = mac, client: [UInt8] = [0, 0, 0, 0], flags: UInt8 = 0) -> [UInt8] {
        var message: [UInt8] = [1, 1, 6, 0, 0xDE, 0xAD, 0xBE, 0xEF, 0, 0, flags, 0] + client
        message += [UInt8](repeating: 0, count: 12) + mac + [UInt8](repeating: 0, count: 202) + DHCPRequest.magic + options
        let length = 8 + message.count
        let udp: [UInt8] = [0, 68, 0, 67, UInt8(length >> 8), UInt8(length & 255), 0, 0]
        let ip: [UInt8] = [0x45, 0, UInt8((length + 20) >> 8), UInt8((length + 20) & 255), 0, 0, 0, 0, 64, 17, 0, 0]
        return [UInt8](repeating: 255, count: 6) + mac + [8, 0] + ip + [0, 0, 0, 0, 255, 255, 255, 255] + udp + message
    }

    static func answer(_ frame: [UInt8], _ offer: AddressOffer) -> DHCPAnswer? {
        DHCPRequest(frame: frame).flatMap { DHCPAnswer(to: $0, offer) }
    }

    /// Options of an answer's frame.
    private static func options(_ frame: [UInt8]) -> [UInt8: [UInt8]] {
        var found: [UInt8: [UInt8]] = [:]
        var index = 14 + 20 + 8 + DHCPRequest.headerLength
        while frame[index] != 255 {
            let length = Int(frame[index + 1])
            found[frame[index], default: []] += frame[(index + 2)..<(index + 2 + length)]
            index += 2 + length
        }
        return found
    }

    @Test func anOfferSaysAllThatCNIGave() throws {
        let answer = try #require(Self.answer(Self.frame([53, 1, 1, 255]), try Self.offer()))
        #expect(answer.kind == .offer)
        let frame = answer.frame
        #expect(Array(frame[0..<6]) == Self.mac)
        #expect(Array(frame[30..<34]) == [10, 88, 0, 5])
        #expect(Array(frame[46..<50]) == [0xDE, 0xAD, 0xBE, 0xEF] && Array(frame[58..<62]) == [10, 88, 0, 5])
        let options = Self.options(frame)
        #expect(options[1] == [255, 255, 0, 0] && options[3] == [10, 88, 0, 1] && options[6] == [10, 96, 0, 10])
        #expect(options[12] == Array("web-0".utf8) && options[15] == Array("shop.svc.cluster.local".utf8))
        #expect(options[26] == [5, 170] && options[51] == [255, 255, 255, 255] && options[53] == [2] && options[54] == [169, 254, 1, 1])
        #expect(options[119]?.suffix(15) == [7] + Array("cluster".utf8) + [5] + Array("local".utf8) + [0])
        #expect(options[121] == [0, 10, 88, 0, 1])
    }

    @Test func aGatewayOutsideOfTheAddressesNetworkHasARouteOfItsOwnFirst() throws {
        let offer = try Self.offer(
            "10.1.2.3/32", routes: [NetworkRoute(destination: "0.0.0.0/0", gateway: "169.254.1.1", interface: "eth0")])
        let options = Self.options(try #require(Self.answer(Self.frame([53, 1, 1, 255]), offer)).frame)
        #expect(options[1] == [255, 255, 255, 255])
        #expect(options[121] == [32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1])
    }

    @Test func aRequestIsAcknowledgedForThisAddressAlone() throws {
        let offer = try Self.offer()
        #expect(Self.answer(Self.frame([53, 1, 3, 50, 4, 10, 88, 0, 5, 255]), offer)?.kind == .acknowledgement)
        #expect(Self.answer(Self.frame([53, 1, 3, 255], client: [10, 88, 0, 5]), offer)?.kind == .acknowledgement)
        let refusal = try #require(Self.answer(Self.frame([53, 1, 3, 50, 4, 10, 99, 0, 5, 255]), offer))
        #expect(refusal.kind == .refusal)
        let frame = refusal.frame
        #expect(Array(frame[0..<6]) == [UInt8](repeating: 255, count: 6) && Array(frame[58..<62]) == [0, 0, 0, 0])
        #expect(Set(Self.options(frame).keys) == [53, 54])
        #expect(Self.answer(Self.frame([53, 1, 3, 50, 4, 10, 88, 0, 5, 54, 4, 1, 2, 3, 4, 255]), offer) == nil)
    }

    @Test func informIsAnsweredWithoutALeaseAndReleaseAndStrangersNotAtAll() throws {
        let offer = try Self.offer()
        let answer = try #require(Self.answer(Self.frame([53, 1, 8, 255], client: [10, 88, 0, 5]), offer))
        #expect(Self.options(answer.frame)[51] == nil && Array(answer.frame[58..<62]) == [0, 0, 0, 0])
        for kind: UInt8 in [0, 2, 4, 5, 6, 7, 9, 255] {
            #expect(Self.answer(Self.frame([53, 1, kind, 255], client: [10, 88, 0, 5]), offer) == nil, "\(kind)")
        }
        #expect(Self.answer(Self.frame([53, 1, 1, 255], mac: [2, 0, 0, 0, 0, 8]), offer) == nil)
    }

    @Test func namesThatAreNoneAndMoreThanAClientTakesAreLeftOut() throws {
        var offer = try Self.offer()
        offer.hostname = "a;reboot"
        offer.domain = "$(reboot)"
        offer.search = (0..<200).map { "domain-number-\($0).example" } + ["..", ""]
        let options = Self.options(try #require(Self.answer(Self.frame([53, 1, 1, 255]), offer)).frame)
        #expect(options[12] == nil && options[15] == nil && options[119] == nil && options[121] != nil)
        let large = try #require(Self.answer(Self.frame([53, 1, 1, 57, 2, 255, 255, 255]), offer)).frame
        #expect(large.count <= 14 + 1500)
    }

    @Test func noBytesAreReadBeyondTheirEnd() throws {
        let offer = try Self.offer()
        let whole = Self.frame([53, 1, 3, 50, 4, 10, 88, 0, 5, 57, 2, 2, 64, 12, 3, 97, 98, 99, 255])
        for length in 0..<whole.count { #expect(DHCPRequest(frame: whole.prefix(length)) == nil) }
        #expect(DHCPRequest(frame: Self.frame([53, 1, 1, 12, 200, 1])) == nil)
        #expect(DHCPRequest(frame: Self.frame([53])) == nil)
        var random = SplitMix(seed: 11)
        for _ in 0..<20_000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            guard let answer = Self.answer(bytes, offer) else { continue }
            #expect(answer.frame.count <= 14 + 1500)
        }
    }

    @Test func aFloodIsAnsweredFourTimesASecond() {
        var budget = FrameBudget.answers
        let start = ContinuousClock.now
        #expect((0..<100).count { _ in budget.take(at: start) } == 16)
        #expect((0..<100).count { _ in budget.take(at: start + .seconds(1)) } == 4)
        let again = budget.refillTime(from: start + .seconds(1))
        #expect((0..<100).count { _ in budget.take(at: again) } == 8)
    }
}
