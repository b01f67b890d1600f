import Errors
import Glibc
import Testing

@testable import Linux

/// Each test works in network namespaces of its own, which end with it.
@Suite struct NetlinkTests {
    @Test func aNewNamespaceHoldsOnlyALoopbackThatIsDown() async throws {
        let links = try await withNamespace { try RouteNetlink().links() }
        #expect(links.map(\.name) == ["lo"])
        #expect(links.first?.isLoopback == true)
        #expect(links.first?.isUp == false)
    }

    @Test func linkChangesAreReadBackAsTheyWereSet() async throws {
        let mac = try #require(MACAddress("02:00:00:00:12:34"))
        let link = try await withNamespace {
            let netlink = try RouteNetlink()
            try netlink.createVeth("a0", peer: "a1")
            let index = try #require(try netlink.link(named: "a0")).index
            try netlink.change(link: index, LinkChange(name: "eth0", mac: mac, mtu: 1400))
            try netlink.change(link: index, LinkChange(up: true))
            return try netlink.link(named: "eth0")
        }
        #expect(link?.mac == mac)
        #expect(link?.mtu == 1400)
        #expect(link?.isUp == true)
        #expect(link?.kind == "veth")
    }

    @Test func addressesOfBothFamiliesAreListedPrimaryFirst() async throws {
        let wanted = ["10.1.2.3/24", "10.1.2.4/24", "fd00:1::5/64"].compactMap { IPPrefix($0) }
        let (listed, afterwards) = try await withNamespace {
            let netlink = try RouteNetlink()
            let index = try vethUp(netlink)
            for prefix in wanted { try netlink.add(address: prefix, link: index) }
            let listed = try netlink.addresses(link: index).map(\.prefix)
            for prefix in wanted { try? netlink.delete(address: prefix, link: index) }
            return (listed, try netlink.addresses(link: index).map(\.prefix))
        }
        #expect(listed.filter { !$0.address.isLinkLocal } == wanted)
        #expect(afterwards.filter { !$0.address.isLinkLocal }.isEmpty)
    }

    @Test func routesKeepGatewaySourceScopeAndMTU() async throws {
        let routes = try await withNamespace {
            let netlink = try RouteNetlink()
            let index = try vethUp(netlink)
            try netlink.add(address: try prefix("10.1.2.3/24"), link: index)
            try netlink.add(address: try prefix("fd00:1::5/64"), link: index)
            for route in [
                LinkRoute(destination: try prefix("169.254.1.1/32"), link: index),
                LinkRoute(
                    destination: .defaultRoute(ipv6: false), gateway: IPAddress("10.1.2.1"), link: index, source: IPAddress("10.1.2.3"),
                    mtu: 1300),
                LinkRoute(destination: .defaultRoute(ipv6: true), gateway: IPAddress("fd00:1::1"), link: index),
                LinkRoute(destination: try prefix("10.9.0.0/16"), gateway: IPAddress("192.168.77.1"), link: index, onLink: true),
            ] { try netlink.add(route: route) }
            return try netlink.routes()
        }
        let byDestination = Dictionary(routes.map { ($0.destination.description, $0) }) { first, _ in first }
        let fallback = try #require(byDestination["0.0.0.0/0"])
        #expect(fallback.gateway == IPAddress("10.1.2.1"))
        #expect(fallback.source == IPAddress("10.1.2.3"))
        #expect(fallback.mtu == 1300)
        #expect(byDestination["169.254.1.1/32"]?.scope == 253)
        #expect(byDestination["::/0"]?.gateway == IPAddress("fd00:1::1"))
        #expect(byDestination["10.9.0.0/16"]?.onLink == true)
        #expect(byDestination["10.1.2.0/24"]?.origin == 2)
    }

    @Test func aRouteCanBeReplacedAndDeleted() async throws {
        let (replaced, deleted) = try await withNamespace {
            let netlink = try RouteNetlink()
            let index = try vethUp(netlink)
            try netlink.add(address: try prefix("10.1.2.3/24"), link: index)
            var route = LinkRoute(destination: try prefix("10.5.0.0/16"), gateway: IPAddress("10.1.2.1"), link: index)
            try netlink.add(route: route)
            #expect(throws: SwiftletError.self) { try netlink.add(route: route) }
            route.gateway = IPAddress("10.1.2.2")
            try netlink.add(route: route, replacing: true)
            let replaced = try netlink.routes()
            try netlink.delete(route: route)
            return (replaced, try netlink.routes())
        }
        #expect(replaced.filter { $0.destination.description == "10.5.0.0/16" }.map(\.gateway) == [IPAddress("10.1.2.2")])
        #expect(!deleted.contains { $0.destination.description == "10.5.0.0/16" })
    }

    @Test func errorsCarryTheErrnoAndTheKernelsWords() async throws {
        let error = try await withNamespace { () -> SwiftletError? in
            let netlink = try RouteNetlink()
            let index = try vethUp(netlink)
            do {
                try netlink.add(
                    route: LinkRoute(destination: .defaultRoute(ipv6: false), gateway: IPAddress("10.77.0.1"), link: index))
                return nil
            } catch let error as SwiftletError {
                return error
            }
        }
        #expect(error?.systemErrno == ENETUNREACH)
        #expect(error?.description.contains("Nexthop has invalid gateway") == true)
    }

    @Test func aMissingLinkIsNilAndABadNameIsRefused() async throws {
        try await withNamespace {
            let netlink = try RouteNetlink()
            #expect(try netlink.link(named: "none0") == nil)
            #expect(try netlink.link(named: "way-too-long-for-a-link") == nil)
            #expect(throws: SwiftletError.self) { try netlink.createVeth("a/b", peer: "c") }
        }
    }

    @Test func aLinkMovesIntoAnotherNamespaceByDescriptor() async throws {
        let other = try TestNamespace()
        let arrived = try await withNamespace {
            let netlink = try RouteNetlink()
            try netlink.createVeth("a0", peer: "a1")
            let descriptor = try NetworkNamespace.open(other.path)
            defer { close(descriptor) }
            let index = try #require(try netlink.link(named: "a1")).index
            try netlink.change(link: index, LinkChange(namespace: descriptor))
            #expect(try netlink.link(named: "a1") == nil)
            return try NetworkNamespace.runAndWait(in: other.path) { try RouteNetlink().link(named: "a1") }
        }
        #expect(arrived?.kind == "veth")
    }

    @Test func manyLinksAreListedWhole() async throws {
        let names = try await withNamespace {
            let netlink = try RouteNetlink()
            for number in 0..<100 { try netlink.createVeth("a\(number)", peer: "b\(number)") }
            return try netlink.links().map(\.name)
        }
        #expect(names.count == 201)
        #expect(Set(names).count == 201)
    }
}

private func vethUp(_ netlink: RouteNetlink) throws -> Int32 {
    try netlink.createVeth("a0", peer: "a1")
    for name in ["a1", "a0"] {
        let index = try #require(try netlink.link(named: name)).index
        try netlink.change(link: index, LinkChange(up: true))
    }
    return try #require(try netlink.link(named: "a0")).index
}

private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

@Suite struct IPAddressTests {
    @Test(arguments: ["10.0.0.1", "255.255.255.255", "::1", "fd00::abcd:1", "fe80::1"])
    func addressesRoundTrip(_ text: String) {
        #expect(IPAddress(text)?.description == text)
    }

    @Test(arguments: ["", "10.0.0", "10.0.0.256", "fe80::1%eth0", "1::2::3", "10.0.0.1/24", "a.b.c.d"])
    func whatIsNoAddressIsNil(_ text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test(arguments: ["10.0.0.1/33", "::/129", "10.0.0.1/-1", "10.0.0.1/+8", "10.0.0.1/", "10.0.0.1/8/8", "/8"])
    func whatIsNoPrefixIsNil(_ text: String) {
        #expect(IPPrefix(text) == nil)
    }

    @Test(arguments: [
        ("10.1.2.3/16", "10.1.0.0"), ("10.1.2.3/0", "0.0.0.0"), ("10.1.2.3/32", "10.1.2.3"), ("10.1.2.255/25", "10.1.2.128"),
        ("fd00:1:2::ff/48", "fd00:1:2::"),
    ])
    func networkClearsTheHostBits(_ text: String, _ network: String) {
        #expect(IPPrefix(text)?.network.description == network)
    }

    @Test func macAddressesRoundTrip() {
        #expect(MACAddress("02:00:0a:Ff:00:09")?.description == "02:00:0a:ff:00:09")
        #expect(MACAddress("02:00:0a:ff:00") == nil)
        #expect(MACAddress("02:00:0a:ff:00:1") == nil)
        #expect(MACAddress("02:00:0a:ff:00:+1") == nil)
    }
}
