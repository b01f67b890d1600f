import Errors
import Foundation
import Linux
import Logging
import Runtime
import Testing

@testable import DHCP

/// Real clients on the other end of a veth.
@Suite(.timeLimit(.minutes(2))) struct ClientTests {
    /// The namespaces of a pod, with `tap0`, and of a guest, with `eth0`.
    private struct Link: Sendable {
        let directory: String
        let mac: String
        var pod: String { directory + "/pod" }
        var guest: String { directory + "/guest" }

        init() async throws {
            let directory = FileManager.default.temporaryDirectory.appending(path: "dhcp-\(UUID())").path
            self.directory = directory
            try NetworkNamespace.create(at: directory + "/pod")
            try NetworkNamespace.create(at: directory + "/guest")
            mac = try await NetworkNamespace.run(in: directory + "/pod") {
                let guest = try NetworkNamespace.open(directory + "/guest")
                defer { close(guest) }
                let netlink = try RouteNetlink()
                try netlink.createVeth("tap0", peer: "eth0", peerNamespace: guest)
                let tap = try #require(try netlink.link(named: "tap0"))
                try netlink.change(link: tap.index, LinkChange(up: true))
                // As in a pod, all that the machine sends is redirected away.
                try netlink.createVeth("eth0", peer: "bridge0")
                try netlink.join(tap.index, try #require(try netlink.link(named: "eth0")).index)
                return try NetworkNamespace.runAndWait(in: directory + "/guest") {
                    let netlink = try RouteNetlink()
                    let link = try #require(try netlink.link(named: "eth0"))
                    try netlink.change(link: link.index, LinkChange(up: true))
                    return try #require(link.mac).description
                }
            }
        }

        /// What udhcpc says, its script's variables among it.
        func udhcpc(_ options: [String] = []) async throws -> String {
            let script = directory + "/script"
            try "#!/bin/sh\necho EVENT=$1\nset\n".write(toFile: script, atomically: true, encoding: .utf8)
            chmod(script, 0o755)
            return try await NetworkNamespace.run(in: guest) {
                let result = try Spawn(
                    "/bin/busybox",
                    [
                        "udhcpc", "-q", "-n", "-f", "-t", "3", "-T", "1", "-i", "eth0", "-s", script, "-O", "mtu", "-O", "search", "-O",
                        "staticroutes",
                    ]
                        + options, deadline: .seconds(20)
                ).runAndWait()
                return result.outputText + result.errorText
            }
        }

        func remove() {
            for path in [pod, guest] { try? NetworkNamespace.delete(at: path) }
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    private static func with(_ body: (Link, AddressResponders) async throws -> Void) async throws {
        let link = try await Link()
        defer { link.remove() }
        try await body(link, AddressResponders(logger: Logger(label: "test")))
    }

    private func offer(_ link: Link, _ address: String = "10.88.0.5/16", gateway: String = "10.88.0.1") throws -> AddressOffer {
        var offer = try AnswerTests.offer(
            address, routes: [NetworkRoute(destination: "0.0.0.0/0", gateway: gateway, interface: "eth0")])
        offer.mac = try #require(MACAddress(link.mac))
        return offer
    }

    @Test func udhcpcGetsItsLeaseAndNoneWhenTheResponderHasStopped() async throws {
        try await Self.with { link, responders in
            let responder = try await responders.start(try offer(link), tap: "tap0", in: link.pod)
            let text = try await link.udhcpc()
            for expected in [
                "EVENT=bound", "ip='10.88.0.5'", "mask='16'", "router='10.88.0.1'", "dns='10.96.0.10'", "hostname='web-0'", "mtu='1450'",
                "domain='shop.svc.cluster.local'", "search='shop.svc.cluster.local cluster.local'", "staticroutes='0.0.0.0/0 10.88.0.1'",
            ] {
                #expect(text.contains(expected), "\(expected) in \(text)")
            }
            responder.stop()
            let silence = try await link.udhcpc()
            #expect(silence.contains("EVENT=leasefail") && !silence.contains("EVENT=bound"))
        }
    }

    @Test func udhcpcGetsTheRoutesOfAHostAddress() async throws {
        try await Self.with { link, responders in
            let offer = try offer(link, "10.1.2.3/32", gateway: "169.254.1.1")
            let responder = try await responders.start(offer, tap: "tap0", in: link.pod)
            let text = try await link.udhcpc()
            #expect(text.contains("staticroutes='169.254.1.1/32 0.0.0.0 0.0.0.0/0 169.254.1.1'"), "\(text)")
            responder.stop()
        }
    }

    @Test func anotherMachineIsNotAnswered() async throws {
        try await Self.with { link, responders in
            var offer = try offer(link)
            offer.mac = try #require(MACAddress("02:00:00:00:00:99"))
            let responder = try await responders.start(offer, tap: "tap0", in: link.pod)
            #expect(try await link.udhcpc().contains("EVENT=leasefail"))
            responder.stop()
        }
    }

    /// What is above the budget is neither read nor waited for: it costs the node nothing but the guest's own sending.
    @Test func aFloodIsNotReadAndTheClientIsServedAfterIt() async throws {
        try await Self.with { link, responders in
            let responder = try await responders.start(try offer(link), tap: "tap0", in: link.pod)
            let mac = try #require(MACAddress(link.mac)).bytes
            let discover = AnswerTests.frame([53, 1, 1, 255], mac: mac)
            let start = ContinuousClock.now
            let sent = try await NetworkNamespace.run(in: link.guest) {
                let socket = try RequestSocket(link: "eth0", .requests(router: nil))
                var sent = 0
                while ContinuousClock.now - start < .seconds(2) {
                    for _ in 0..<50 { socket.send(discover) }
                    sent += 50
                }
                return sent
            }
            let (seconds, frames) = ((ContinuousClock.now - start) / .seconds(1), responder.frames)
            #expect(sent > 2000 && frames > 0 && Double(frames) <= 32 + 16 * (seconds + 1), "\(frames) of \(sent) in \(seconds) s")
            #expect(try await link.udhcpc(["-t", "8"]).contains("EVENT=bound"))
            responder.stop()
        }
    }

    @Test func aTapThatIsGoneEndsTheResponderAndAnotherTapIsServedOn() async throws {
        try await Self.with { link, responders in
            let gone = try await responders.start(try offer(link), tap: "tap0", in: link.pod)
            try await Self.with { other, _ in
                let responder = try await responders.start(try offer(other), tap: "tap0", in: other.pod)
                try await NetworkNamespace.run(in: link.pod) {
                    let netlink = try RouteNetlink()
                    try netlink.delete(link: try #require(try netlink.link(named: "tap0")).index)
                }
                #expect(try await other.udhcpc().contains("EVENT=bound"))
                responder.stop()
            }
            gone.stop()
        }
    }
}
