import CRI
import Errors
import Foundation
import Glibc
import Linux
import Support
import Testing

extension SessionTests {
    /// Several megabytes there and back, whose sender ends first; another port refuses.
    @Test func swiftletForwardsPortsIntoTheGuest() async throws {
        let node = try node()
        let serve = "exec busybox nc -ll -p 9100 -e /bin/busybox cat"
        let container = try await node.runContainer(in: try sharedPod(), "forwarded", ["/bin/sh", "-c", serve])
        let command = try RunningCommand(
            node.environment.build + "/swiftlet",
            ["--endpoint", node.endpoint, "port-forward", try sharedPod(), ":9100", "0:9101"], environment: [:],
            in: node.environment.scratch + "/home")
        defer { command.kill(SIGKILL) }
        let ports = try await command.forwardedPorts(2)
        #expect(ports.map(\.remote) == [9100, 9101])

        var large = SplitMix(seed: 11)
        let bytes = (0..<(6 << 20)).map { _ in UInt8.random(in: 0...255, using: &large) }
        var isRight = false
        try await eventually("the pod answers: \(command.errors)") {
            let answer = try await TCPClient.exchange(ports[0].local, bytes)
            isRight = answer == bytes
            return !answer.isEmpty
        }
        #expect(isRight, "\(command.errors)")

        let refused = try await TCPClient.exchange(ports[1].local, [1])
        #expect(refused == [])
        try await eventually("it is told: \(command.errors)") {
            command.errors.contains("swiftlet: forwarding \(ports[1].local) -> 9101: forward to port 9101 of pod sandbox ")
        }

        command.kill(SIGINT)
        let status = await command.status()
        #expect(status == 130)
        try await node.removeContainer(container)
    }
}
