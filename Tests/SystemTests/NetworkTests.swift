import CRI
import Foundation
import Testing

@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("net", Node.Options(hasSecondInterface: true)))
struct PodNetworkTests {
    @Test func twoPodsTalkToEachOtherOverTheirAddresses() async throws {
        let node = try node()
        async let first = node.runPod("one")
        async let second = node.runPod("two")
        let (one, two) = try await (first, second)
        let address = try await node.podStatus(one).status.network.ip
        #expect(try await node.podStatus(two).status.network.ip != address)
        let server = try await node.runContainer(
            in: one, "server", ["/bin/sh", "-c", "while true; do echo from one | nc -l -p 9000; done"])
        let client = try await node.runContainer(in: two, "client", ["/bin/sleep", "600"])
        let answer = try await node.shell(
            client, "for i in $(seq 50); do nc -w 3 \(address) 9000 </dev/null 2>/dev/null && break; sleep 0.3; done")
        #expect(answer == "from one\n")
        #expect(try await node.status(of: server).state == .containerRunning)
        try await checkSecondInterface(of: server, from: client, node)
        // What the interfaces took is known from the ledger.
        await node.kill()
        try await node.launch()
        try await node.removePod(one)
        try await node.removePod(two)
    }

    /// Its address, MTU and route are in the guest, and the other pod is reached over it.
    private func checkSecondInterface(of server: String, from client: String, _ node: Node) async throws {
        let shown = try await node.shell(server, "cat /sys/class/net/net1/mtu; busybox route -n; busybox ifconfig net1")
        let lines = shown.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        #expect(lines.first == ["1400"], "\(shown)")
        #expect(lines.contains { $0.first == "10.90.0.0" && $0.last == "net1" }, "\(shown)")
        #expect(lines.contains { $0.first == "0.0.0.0" && $0.last == "eth0" }, "\(shown)")
        let field = try #require(lines.joined().first { $0.hasPrefix("addr:10.89.") }, "\(shown)")
        let address = field.dropFirst("addr:".count)
        let reached = try await node.shell(client, "nc -w 3 \(address) 9000 </dev/null; cat /proc/net/arp")
        #expect(reached.hasPrefix("from one\n") && reached.contains("net1"), "\(reached)")
    }
}
