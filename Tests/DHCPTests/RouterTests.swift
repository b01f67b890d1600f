import Errors
import Foundation
import Linux
import Logging
import Runtime
import Testing

@testable import DHCP

/// A kernel and real clients on the other end of a veth, and a node whose bridge is their gateway.
@Suite(.timeLimit(.minutes(2))) struct RouterTests {
    private struct Network: Sendable {
        let directory: String
        let mac: String
        var pod: String { directory + "/pod" }
        var guest: String { directory + "/guest" }
        var node: String { directory + "/node" }

        /// - Parameter ownAddress: whether the bridge has the link-local address of its MAC address; else fe80::1 alone.
        init(ownAddress: Bool) async throws {
            let directory = FileManager.default.temporaryDirectory.appending(path: "router-\(UUID())").path
            self.directory = directory
            for name in ["pod", "guest", "node"] { try NetworkNamespace.create(at: "\(directory)/\(name)") }
            try await NetworkNamespace.run(in: directory + "/pod") {
                let netlink = try RouteNetlink()
                for (name, peer, namespace) in [("tap0", "eth0", "guest"), ("eth0", "bridge0", "node")] {
                    let other = try NetworkNamespace.open("\(directory)/\(namespace)")
                    defer { close(other) }
                    try netlink.createVeth(name, peer: peer, peerNamespace: other)
                }
                let (tap, eth) = (try #require(try netlink.link(named: "tap0")), try #require(try netlink.link(named: "eth0")))
                for link in [tap, eth] { try netlink.disableIPv6Autoconfiguration(link: link.index) }
                try netlink.join(tap.index, eth.index)
                for link in [tap, eth] { try netlink.change(link: link.index, LinkChange(up: true)) }
            }
            let network = "ip addr add fd00::1/64 dev bridge0 nodad; ip addr add fd99::1/128 dev lo nodad"
            try await Self.shell(
                in: directory + "/node",
                (ownAddress ? "" : "ip link set bridge0 addrgenmode none; ip addr add fe80::1/64 dev bridge0 nodad; ")
                    + "ip link set lo up; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; \(network); ip link set bridge0 up")
            mac = try await NetworkNamespace.run(in: directory + "/guest") {
                try #require(try RouteNetlink().link(named: "eth0")?.mac).description
            }
        }

        @discardableResult static func shell(in namespace: String, _ text: String) async throws -> String {
            try await NetworkNamespace.run(in: namespace) {
                let result = try Spawn("/bin/sh", ["-ec", "export PATH=/usr/sbin:/usr/bin:/sbin:/bin; \(text)"], deadline: .seconds(40))
                    .runAndWait()
                guard result.status == 0 else { throw SwiftletError(.unknown, "\(text): \(result.outputText) \(result.errorText)") }
                return result.outputText
            }
        }

        @discardableResult func inGuest(_ text: String) async throws -> String { try await Self.shell(in: guest, text) }

        func remove() {
            for path in [pod, guest, node] { try? NetworkNamespace.delete(at: path) }
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    private static func with(ownAddress: Bool = true, gateway: String = "fd00::1", _ body: (Network) async throws -> Void) async throws {
        let network = try await Network(ownAddress: ownAddress)
        defer { network.remove() }
        let responders = try AddressResponders(logger: Logger(label: "test"))
        var offer = try IPv6Tests.offer(gateway: gateway)
        offer.mac = try #require(MACAddress(network.mac))
        let responder = try await responders.start(nil, offer, tap: "tap0", in: network.pod)
        try await network.inGuest("ip link set lo up; ip link set eth0 up")
        try await body(network)
        responder.stop()
    }

    private static let untilRouted =
        "n=0; until ip -6 route show default | grep -q 'via fe80'; do n=$((n+1)); [ $n -lt 100 ]; sleep 0.2; done"

    /// The kernel solicits and takes the route; what leaves by it arrives, also when the bridge does not know the address that it leads to.
    @Test(arguments: [(true, "fd00::1"), (false, "fd00::1"), (false, "fe80::1")])
    func aKernelGetsItsDefaultRouteAndReachesTheWorld(_ ownAddress: Bool, _ gateway: String) async throws {
        try await Self.with(ownAddress: ownAddress, gateway: gateway) { network in
            try await network.inGuest(Self.untilRouted)
            let routes = try await network.inGuest("ip -6 route; cat /proc/sys/net/ipv6/conf/eth0/mtu; ip -6 addr show dev eth0")
            #expect(routes.contains("fd00::/64 dev eth0 proto kernel") && routes.contains("proto ra") && routes.contains("\n1450\n"))
            if gateway == "fe80::1" { #expect(routes.contains("default via fe80::1 ")) }
            #expect(
                !routes.contains("fd00:0") && !routes.contains("inet6 fd00"), "no address that the machine makes of the prefix: \(routes)")
            try await network.inGuest("ip addr add fd00::5/128 dev eth0 nodad; busybox ping6 -c 2 -W 5 fd99::1")
            try await network.inGuest("ip -6 neigh flush dev eth0; busybox ping6 -c 2 -W 5 fd99::1")
        }
    }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/usr/sbin/dhclient"))) func dhclientGetsTheAddress() async throws {
        try await Self.with { network in
            let (script, lease, pid) = ("\(network.directory)/script", "\(network.directory)/lease", "\(network.directory)/pid")
            try "#!/bin/sh\nenv >\(network.directory)/env-$reason\n".write(toFile: script, atomically: true, encoding: .utf8)
            chmod(script, 0o755)
            let client = "dhclient -6 -sf \(script) -lf \(lease) -pf \(pid) -cf /dev/null"
            _ = try await network.inGuest(
                "n=0; while ip -6 addr show dev eth0 | grep -q tentative; do n=$((n+1)); [ $n -lt 50 ]; sleep 0.2; done; "
                    + "\(client) -1 eth0 </dev/null >/dev/null 2>&1")
            let bound = try String(contentsOfFile: "\(network.directory)/env-BOUND6", encoding: .utf8)
            try await network.inGuest("\(client) -x eth0 </dev/null >/dev/null 2>&1")
            for expected in [
                "new_ip6_address=fd00::5\n", "new_dhcp6_name_servers=fd00::10\n",
                "new_dhcp6_domain_search=svc.cluster.local. cluster.local.\n",
                "new_max_life=4294967295\n",
            ] { #expect(bound.contains(expected), "\(expected) in \(bound)") }
        }
    }
}
