import CRI
import Foundation
import GRPC
import Linux
import Support
import Testing

/// A VM pod on a network with IPv6.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized, .node("vm6", Node.Options(hasIPv6: true)))
struct VMIPv6Tests {
    /// The seed says nothing of IPv6: the guest's kernel asks for a router, and reaches by it what is behind the node's bridge.
    @Test func aGuestThatAsksLearnsItsRouter() async throws {
        let node = try node()
        try await node.loadSmallVM()
        let pod = try await node.runVMPod("six") { $0.annotations = ["swiftlet/network-config": "dhcp"] }
        let network = try await node.cri.call(RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = pod }).status.network
        let own = try #require(network.additionalIps.map(\.ip).first { $0.contains(":") })
        let container = try await node.createVM(in: pod, "six")
        try await node.start(container)
        try await eventually("the guest says that it is up", within: .seconds(120)) {
            (try? node.logText("six.log"))?.contains(SmallVM.ready) == true
        }
        // A host behind the bridge: not on the guest's link.
        let address = try #require(IPPrefix("fd99::1/128"))
        let netlink = try RouteNetlink()
        let loopback = try #require(try netlink.link(named: "lo")).index
        try netlink.add(address: address, link: loopback)
        let script = """
            n=0; until ip -6 route | grep -q '^default via fe80:'; do n=$((n+1)); [ $n -lt 60 ] || exit 7; sleep 1; done
            ip -6 route; ip -6 addr show dev eth0
            ip -6 addr add \(own)/128 dev eth0
            n=0; until ping6 -c 1 -W 2 fd99::1; do n=$((n+1)); [ $n -lt 10 ] || exit 8; sleep 1; done
            """
        let answer = try await node.cri.call(
            RuntimeRPC.execSync,
            .with {
                $0.containerID = container
                $0.cmd = ["/bin/sh", "-c", script]
                $0.timeout = 100
            })
        let (output, errors) = (String(decoding: answer.stdout, as: UTF8.self), String(decoding: answer.stderr, as: UTF8.self))
        #expect(answer.exitCode == 0, "\(output) \(errors)")
        #expect(output.contains("fd88::/64 dev eth0") && !output.contains("inet6 fd88:"), "no address of its own making: \(output)")
        try netlink.delete(address: address, link: loopback)
        try await node.removePod(pod)
    }
}
