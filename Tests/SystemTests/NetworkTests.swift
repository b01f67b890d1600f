import CRI
import Foundation
import Testing

@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("net"))
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
        try await node.removePod(one)
        try await node.removePod(two)
    }
}
