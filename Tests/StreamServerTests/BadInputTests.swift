import Foundation
import Glibc
import NIOCore
import StreamFakes
import Support
import Testing

@testable import StreamServer

/// What a client does wrong ends its own connection, is told where it can be, and is logged once.
@Suite(.timeLimit(.minutes(5))) struct BadInputTests {
    private func answer(_ node: StreamNode, _ url: String, _ headers: [String], method: String = "POST") async throws -> String {
        try await TCPClient.onThread {
            let client = try RawClient(node, url, headers, method: method)
            return client.head() + String(decoding: client.rest() ?? [], as: UTF8.self)
        }
    }

    /// Waits until there is one line, and a little longer for a second.
    private func isLoggedOnce(_ node: StreamNode, _ text: String) async throws -> Bool {
        try await eventually("\(text) is logged: \(node.log.lines)") { node.log.lines.contains { $0.contains(text) } }
        try await Task.sleep(for: .milliseconds(100))
        return node.log.lines.count == 1
    }

    @Test func nothingIsServedWithoutATokenOfItsKind() async throws {
        let node = try await StreamNode()
        let used = try node.execURL(["true"])
        #expect(try await answer(node, used, RawClient.spdy + ["X-Stream-Protocol-Version: v9"]).hasPrefix("HTTP/1.1 403"))
        let attach = try node.execURL(["true"]).replacing("/exec/", with: "/attach/")
        let last = try node.execURL(["true"])
        for url in [
            used, attach, "/", "/exec", "/exec/", "/exec/x", "/portforward/x", "/exec/x/y", "//exec/x", last.dropLast() + "-", "/metrics",
        ] {
            let answer = try await answer(node, url, RawClient.command)
            #expect(answer.hasPrefix("HTTP/1.1 404") && answer.contains("unknown, used or expired"), "\(url): \(answer)")
        }
        #expect(try await answer(node, last, RawClient.command, method: "DELETE").hasPrefix("HTTP/1.1 405"))
        #expect(node.backend.sessions.isEmpty)
        #expect(node.log.lines.count == 13 && !node.log.lines.contains { $0.contains(used.suffix(32)) }, "\(node.log.lines)")
        await node.stop()
    }

    @Test func whatCannotBeUpgradedIsAnsweredInWords() async throws {
        let node = try await StreamNode()
        for (headers, status, words) in [
            ([], 400, "no upgrade"), (["Connection: Upgrade", "Upgrade: h2c"], 400, "SPDY/3.1 and websocket are served, not \"h2c\""),
            (RawClient.portForward, 403, "v4.channel.k8s.io, v3.channel.k8s.io, v2.channel.k8s.io, channel.k8s.io"),
            (RawClient.command + ["Content-Length: 5"], 400, "has a body"), (RawClient.webSocket("v4.channel.k8s.io"), 400, "by GET"),
        ] as [([String], Int, String)] {
            let answer = try await answer(node, node.execURL(["true"]), headers)
            #expect(answer.hasPrefix("HTTP/1.1 \(status)") && answer.contains(words), "\(answer)")
        }
        let webSocket = try await answer(node, node.execURL(["true"]), RawClient.webSocket("v9.channel.k8s.io"), method: "GET")
        #expect(webSocket.hasPrefix("HTTP/1.1 403") && webSocket.contains("v5.channel.k8s.io"), "\(webSocket)")
        await node.stop()
    }

    @Test func headsThatAreSlowLargeOrNoHTTPEndTheirConnection() async throws {
        let node = try await StreamNode { $0.headTimeout = .milliseconds(500) }
        try await TCPClient.onThread {
            let slow = try RawClient(node)
            slow.send("POST /exec/x HTTP/1.1\r\nHost:")
            #expect(slow.rest() == [])
            let large = try RawClient(node)
            large.send("POST /exec/x HTTP/1.1\r\n" + String(repeating: "X-A: " + String(repeating: "a", count: 1000) + "\r\n", count: 50))
            #expect(large.rest().map { String(decoding: $0, as: UTF8.self) }?.hasPrefix("HTTP/1.1 400") == true)
            let endless = try RawClient(node)
            endless.send("POST /" + String(repeating: "a", count: 100_000))
            #expect(endless.rest() != nil)
            let garbage = try RawClient(node)
            garbage.send([UInt8](repeating: 0xFF, count: 100))
            #expect(garbage.rest() != nil)
        }
        #expect(node.log.lines.count == 4, "\(node.log.lines)")
        await node.stop()
    }

    @Test func noMoreConnectionsThanAllowedAreServed() async throws {
        let node = try await StreamNode { $0.maximumConnections = 2 }
        try await TCPClient.onThread {
            let first = [try RawClient(node), try RawClient(node)]
            // The server has taken both once it has answered a third.
            #expect(try RawClient(node).rest() == [])
            first[0].vanish()
        }
        try await eventually("another is served") {
            try await answer(node, "/exec/x", RawClient.command).hasPrefix("HTTP/1.1 404")
        }
        await node.stop()
    }

    @Test func aClientThatOpensNoStreamsIsLeftAlone() async throws {
        let node = try await StreamNode { $0.streamCreationTimeout = .milliseconds(300) }
        let closed = try await TCPClient.onThread {
            let client = try RawClient(node, node.execURL(["true"]), RawClient.command)
            #expect(client.head().hasPrefix("HTTP/1.1 101"))
            client.send(SPDYClient().open(1, ["streamtype": "error"]))
            return client.rest()
        }
        #expect(closed?.suffix(16) == [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0])
        #expect(try await isLoggedOnce(node, "waiting for the client to open its streams"), "\(node.log.lines)")
        #expect(node.backend.sessions.isEmpty)
        await node.stop()
    }

    @Test func aSessionOnWhichNothingMovesEnds() async throws {
        let node = try await StreamNode { $0.idleTimeout = .milliseconds(500) }
        let closed = try await TCPClient.onThread {
            let client = try RawClient(node, node.execURL(["sleep", "1000"]), RawClient.command)
            _ = client.head()
            let frames = SPDYClient()
            client.send(frames.open(1, ["streamtype": "error"]) + frames.open(3, ["streamtype": "stdout"]))
            return client.rest()
        }
        #expect(closed != nil)
        #expect(try await isLoggedOnce(node, "nothing was sent or received"), "\(node.log.lines)")
        let session = try #require(node.backend.sessions.first)
        try await eventually("its process ends") { session.hasEnded.withLock { $0 } }
        await node.stop()
    }

    /// A started `cat` by SPDY, after which the client does something.
    private func afterStart(_ act: @escaping @Sendable (RawClient, SPDYClient) -> Void) async throws -> StreamNode {
        let node = try await StreamNode()
        let client = try await TCPClient.onThread {
            let client = try RawClient(node, node.execURL(["cat"], stdin: true), RawClient.command)
            _ = client.head()
            return client
        }
        try await TCPClient.onThread {
            let frames = SPDYClient()
            client.send(["error", "stdin", "stdout"].enumerated().flatMap { frames.open(UInt32($0 * 2 + 1), ["streamtype": $1]) })
            while node.backend.sessions.isEmpty { usleep(10_000) }
            act(client, frames)
        }
        let session = node.backend.sessions[0]
        try await eventually("the session ends") { session.hasEnded.withLock { $0 } }
        return node
    }

    @Test func aClientThatVanishesInAFrameEndsItsProcess() async throws {
        let node = try await afterStart { client, frames in
            client.send(frames.data(3, [UInt8](repeating: 1, count: 1000)).dropLast(500))
            client.vanish()
        }
        #expect(try await isLoggedOnce(node, "exec in container c"), "\(node.log.lines)")
        await node.stop()
    }

    @Test func framesThatAreNoneEndTheConnection() async throws {
        let node = try await afterStart { client, _ in client.send([0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 1, 0]) }
        #expect(try await isLoggedOnce(node, "ping frame is too long"), "\(node.log.lines)")
        await node.stop()
    }

    @Test func aFloodOfFramesWhoseAnswersNobodyReadsEndsTheConnection() async throws {
        let node = try await afterStart { client, frames in
            let pings = [UInt8]((0..<4096).flatMap { _ in frames.ping(1) })
            for _ in 0..<2000 { client.send(pings) }
        }
        #expect(try await isLoggedOnce(node, "reads no answers"), "\(node.log.lines)")
        await node.stop()
    }

    @Test func portsThatAreNoneAreRefusedAndTheConnectionGoesOn() async throws {
        let node = try await StreamNode()
        let echo = try EchoServer(dollarEnds: true)
        let url = try node.server.url(for: .portForward(PortForwardRequest(sandboxID: "p", ports: [])))
        try await TCPClient.onThread {
            let client = try RawClient(node, url, RawClient.portForward)
            #expect(client.head().contains("X-Stream-Protocol-Version: portforward.k8s.io"))
            let frames = SPDYClient()
            var id: UInt32 = 1
            for port in ["0", "65536", "-1", "", "80x", "+80", " 80"] {
                client.send(frames.open(id, ["streamtype": "error", "port": port, "requestid": "\(id)"]))
                #expect(client.read(16) == [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, UInt8(id), 0, 0, 0, 3], "\(port)")
                id += 2
            }
            client.send(frames.open(id, ["streamtype": "error", "port": "\(echo.port)", "requestid": "1"], end: true))
            client.send(frames.open(id + 2, ["streamtype": "data", "port": "\(echo.port)", "requestid": "1"]))
            client.send(frames.data(id + 2, Array("hi$".utf8)))
            client.endSending()
            #expect(client.rest()?.isEmpty == false)
        }
        echo.stop()
        await node.stop()
    }

    /// The pod's side neither reads, answers nor ends: a half-close would leave its connection behind.
    @Test func aStreamThatIsResetEndsItsConnectionToThePort() async throws {
        let node = try await StreamNode()
        let url = try node.server.url(for: .portForward(PortForwardRequest(sandboxID: "p", ports: [])))
        // Its backlog takes the connection, and nobody accepts.
        let listener = try TCPClient.listen()
        let client = try await TCPClient.onThread {
            let client = try RawClient(node, url, RawClient.portForward)
            _ = client.head()
            let frames = SPDYClient()
            client.send(frames.open(1, ["streamtype": "error", "port": "\(listener.port)", "requestid": "1"], end: true))
            client.send(frames.open(3, ["streamtype": "data", "port": "\(listener.port)", "requestid": "1"]))
            client.send(frames.data(3, [UInt8](repeating: 0x61, count: 60_000)))
            return client
        }
        try await eventually("the port is connected to") { node.backend.connections.count == 1 }
        client.send(SPDYClient().reset(3))
        let connection = try #require(node.backend.connections.first)
        try await eventually("it is ended") { connection.hasEnded.withLock { $0 } }
        close(listener.descriptor)
        await node.stop()
    }

    @Test func thousandsOfStreamsAreRefusedBeyondTheLimitAndBounded() async throws {
        let node = try await StreamNode { $0.maximumStreams = 100 }
        let url = try node.server.url(for: .portForward(PortForwardRequest(sandboxID: "p", ports: [])))
        try await TCPClient.onThread {
            let client = try RawClient(node, url, RawClient.portForward)
            _ = client.head()
            let frames = SPDYClient()
            for number in UInt32(0)..<5000 {
                client.send(frames.open(number * 2 + 1, ["streamtype": "error", "port": "80", "requestid": "\(number)"]))
            }
            client.send(frames.ping(7))
            var refused = 0
            while true {
                let head = client.read(8)
                guard head.count == 8 else { break }
                let payload = client.read(Int(head[6]) << 8 | Int(head[7]))
                if head[3] == 3 { refused += payload.suffix(4) == [0, 0, 0, 3] ? 1 : 0 }
                if head[3] == 6 { break }
            }
            #expect(refused == 4900)
        }
        await node.stop()
    }

    @Test func webSocketFaultsAreToldInTheCloseFrame() async throws {
        let node = try await StreamNode()
        let masked: @Sendable (UInt8, [UInt8]) -> [UInt8] = { first, bytes in [first, 0x80 | UInt8(bytes.count), 0, 0, 0, 0] + bytes }
        for (bytes, code) in [
            ([0x82, 1, 0], 1002), (masked(0x83, [0]), 1002), (masked(0xC2, [0]), 1002), (masked(0x80, [0]), 1002), (masked(0x09, []), 1002),
            ([0x82, 0xFF, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0], 1009), (masked(0x82, [255]), 1002), (masked(0x88, []), 1000),
        ] as [([UInt8], Int)] {
            let rest = try await TCPClient.onThread {
                let client = try RawClient(
                    node, node.execURL(["cat"], stdin: true), RawClient.webSocket("v5.channel.k8s.io"), method: "GET")
                let head = client.head()
                // RFC 6455's own example of a key.
                #expect(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") && head.contains("v5.channel.k8s.io"), "\(head)")
                client.send(bytes)
                return client.rest()
            }
            #expect(rest?.suffix(4) == [0x88, 2, UInt8(code >> 8), UInt8(code & 0xFF)], "\(bytes) \(rest ?? [])")
        }
        for session in node.backend.sessions {
            try await eventually("its process ends") { session.hasEnded.withLock { $0 } }
        }
        await node.stop()
    }
}
