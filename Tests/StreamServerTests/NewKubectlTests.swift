import Foundation
import Glibc
import StreamFakes
import Support
import Testing

@testable import StreamServer

enum NewKubectl {
    static let program = "/usr/bin/kubectl"
    static let isThere: Bool = {
        let (process, pipe) = (ChildProcess(), Pipe())
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = ["version", "--client"]
        (process.standardOutput, process.standardError) = (pipe, FileHandle.nullDevice)
        guard (try? process.run()) != nil else { return false }
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text.firstMatch(of: /v1\.(\d+)\./).flatMap { Int($0.1) }.map { $0 >= 31 } ?? false
    }()
}

/// A kubectl of 1.31 or later, where the machine has one: WebSocket v5, and SPDY tunnelled in a WebSocket. No package of Debian 12 has it.
@Suite(.timeLimit(.minutes(5)), .enabled(if: NewKubectl.isThere)) struct NewKubectlTests {
    @Test func execSpeaksWebSocketBothWaysWithItsExitCode() async throws {
        let node = try await StreamNode()
        let bytes = randomBytes(4 << 20, seed: 3)
        let result = try await node.kubectl(
            ["exec", "-i", "p", "--", "/bin/sh", "-c", "cat; exit 9"], program: NewKubectl.program, input: bytes)
        #expect(result.status == 9, "\(result.stderr)")
        #expect(result.stdout == bytes)
        #expect(node.api.upgrades == ["exec websocket"])
        await node.stop()
    }

    @Test func portForwardIsTunnelled() async throws {
        let node = try await StreamNode()
        let echo = try EchoServer()
        let client = try Client(
            [NewKubectl.program, "--server=\(node.api.address)", "port-forward", "p", ":\(echo.port)"], home: node.directory)
        var local: UInt16 = 0
        try await eventually("kubectl listens: \(client.stderr)") {
            let text = String(decoding: client.stdout, as: UTF8.self)
            local = text.firstMatch(of: /127\.0\.0\.1:(\d+) ->/).flatMap { UInt16($0.1) } ?? 0
            return local > 0
        }
        let (port, bytes) = (local, Array(randomBytes(1_000_000, seed: 4)))
        for _ in 0..<3 {
            let received = try await TCPClient.onThread {
                let socket = try TCPClient.connect(port)
                Thread.detachNewThread {
                    TCPClient.sendAll(socket, bytes)
                    shutdown(socket, Int32(SHUT_WR))
                }
                defer { close(socket) }
                return TCPClient.readAll(socket)
            }
            #expect(received == bytes, "\(received.count) \(client.stderr)")
        }
        #expect(Set(node.api.upgrades) == ["portforward websocket"])
        client.kill()
        _ = await client.finish()
        echo.stop()
        await node.stop()
    }
}
