import CRI
import Errors
import Foundation
import Glibc
import Linux
import Support
import Testing

extension SessionTests {
    /// By many connections at once, and one of several megabytes whose sender ends first; another port refuses.
    @Test func swiftletForwardsPortsIntoTheGuest() async throws {
        let node = try node()
        let serve = """
            busybox mkdir -p /www; busybox head -c 50000 /dev/urandom >/www/data; busybox nc -ll -p 9100 -e /bin/busybox cat & \
            exec busybox httpd -f -p 9102 -h /www
            """
        let container = try await node.runContainer(in: try sharedPod(), "forwarded", ["/bin/sh", "-c", serve])
        let command = try RunningCommand(
            node.environment.build + "/swiftlet",
            ["--endpoint", node.endpoint, "port-forward", try sharedPod(), ":9100", "0:9101", ":9102"], environment: [:],
            in: node.environment.scratch + "/home")
        defer { command.kill(SIGKILL) }
        let ports = try await command.forwardedPorts(3)
        #expect(ports.map(\.remote) == [9100, 9101, 9102])

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

        let get = Array("GET /data HTTP/1.0\r\n\r\n".utf8)
        let page = try await TCPClient.exchange(ports[2].local, get)
        #expect(page.count > 50_000, "\(command.errors)")
        let wrong = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<20 { group.addTask { try await TCPClient.exchange(ports[2].local, get).count } }
            return try await group.reduce(into: [Int]()) { if $1 != page.count { $0.append($1) } }
        }
        #expect(wrong == [], "\(command.errors)")
        command.kill(SIGINT)
        let status = await command.status()
        #expect(status == 130)
        try await node.removeContainer(container)
    }
}
