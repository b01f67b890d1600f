import Foundation
import Glibc
import StreamFakes
import Support
import Testing

@testable import StreamServer

/// Debian's kubectl 1.20: all connections are pairs of streams of one SPDY connection.
@Suite(.timeLimit(.minutes(5))) struct KubectlPortForwardTests {
    /// kubectl, once it listens, and its port.
    private func forward(_ node: StreamNode, to port: UInt16) async throws -> (client: Client, port: UInt16) {
        let client = try Client(
            [StreamNode.kubectl, "--server=\(node.api.address)", "port-forward", "p", ":\(port)"], home: node.directory)
        var local: UInt16 = 0
        try await eventually("kubectl listens: \(client.stderr)") {
            let text = String(decoding: client.stdout, as: UTF8.self)
            local = text.firstMatch(of: /127\.0\.0\.1:(\d+) ->/).flatMap { UInt16($0.1) } ?? 0
            return local > 0
        }
        return (client, local)
    }

    @Test func twoHundredConnectionsAtOnceKeepTheirBytesApart() async throws {
        let node = try await StreamNode()
        let echo = try EchoServer()
        let (client, port) = try await forward(node, to: echo.port)
        let sockets = try (0..<200).map { _ in try TCPClient.connect(port) }
        let results = try await withThrowingTaskGroup(of: Bool.self) { group in
            for (index, socket) in sockets.enumerated() {
                group.addTask {
                    try await TCPClient.onThread {
                        let bytes = Array(randomBytes(100_000, seed: UInt64(index)))
                        Thread.detachNewThread {
                            TCPClient.sendAll(socket, bytes)
                            shutdown(socket, Int32(SHUT_WR))
                        }
                        let answer = TCPClient.readAll(socket)
                        close(socket)
                        return answer == bytes
                    }
                }
            }
            return try await group.reduce(into: [Bool]()) { $0.append($1) }
        }
        #expect(
            results.count == 200 && results.allSatisfy { $0 }, "\(results.filter { !$0 }.count) connections lost bytes\n\(client.stderr)")
        client.kill()
        _ = await client.finish()
        echo.stop()
        await node.stop()
    }

    @Test func whatIsSentAfterTheClientsEndArrives() async throws {
        let node = try await StreamNode()
        let answer = [UInt8](repeating: 0x5A, count: 300_000)
        let echo = try EchoServer(afterEnd: answer) { _ in [] }
        let (client, port) = try await forward(node, to: echo.port)
        let socket = try TCPClient.connect(port)
        let received = try await TCPClient.onThread {
            TCPClient.sendAll(socket, Array("question".utf8))
            shutdown(socket, Int32(SHUT_WR))
            return TCPClient.readAll(socket)
        }
        #expect(received == answer, "\(received.count)\n\(client.stderr)")
        client.kill()
        _ = await client.finish()
        echo.stop()
        await node.stop()
    }

    @Test func aPortWithoutListenerIsToldAndTheOthersGoOn() async throws {
        let node = try await StreamNode()
        let echo = try EchoServer()
        let (client, port) = try await forward(node, to: echo.port)
        echo.stop()
        let refused = try TCPClient.connect(port)
        #expect(try await TCPClient.onThread { TCPClient.readAll(refused) } == [])
        try await eventually("kubectl says so: \(client.stderr)") {
            client.stderr.contains("forward to port \(echo.port) of pod sandbox p: connect")
        }
        client.kill()
        _ = await client.finish()
        await node.stop()
    }
}
