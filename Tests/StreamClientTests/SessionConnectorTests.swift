import Errors
import Glibc
import NIOCore
import NIOHTTP1
import Support
import Testing

@testable import StreamClient

@Suite(.timeLimit(.minutes(2))) struct SessionConnectorTests {
    private static let upgrade = SessionConnector.Upgrade("SPDY/3.1", method: .POST, headers: ["X-Asked": "that"])

    /// What is read to the end, after `sent` was written and the own direction ended.
    private func exchange(_ url: String, sent: [UInt8] = [], endsFirst: Bool = true) async throws -> (HTTPHeaders, [UInt8]) {
        let (headers, connection) = try await SessionConnector().connect(to: url, Self.upgrade)
        let bytes = try await connection.executeThenClose { inbound, outbound in
            if !sent.isEmpty { try await outbound.write(ByteBuffer(bytes: sent)) }
            if endsFirst { outbound.finish() }
            var bytes: [UInt8] = []
            for try await part in inbound { bytes += part.readableBytesView }
            return bytes
        }
        return (headers, bytes)
    }

    private func refusal(_ answer: String, timeout: Duration = .seconds(30)) async throws -> SwiftletError? {
        let server = try ScriptedServer { client, _ in TCPClient.sendAll(client, Array(answer.utf8)) }
        return await #expect(throws: SwiftletError.self) {
            try await SessionConnector(timeout: timeout).connect(to: server.url, Self.upgrade) { _, _ in
                Issue.record("upgraded")
            }
        }
    }

    @Test func theRequestNamesWhatIsAskedFor() async throws {
        let server = try ScriptedServer { client, head in TCPClient.sendAll(client, Array((ScriptedServer.switching + head).utf8)) }
        let (headers, bytes) = try await exchange(server.url)
        let head = String(decoding: bytes, as: UTF8.self)
        #expect(headers.first(name: "x-said") == "this")
        #expect(
            head.hasPrefix("POST /exec/token HTTP/1.1\r\n") && head.hasSuffix("\r\n\r\n")
                && !head.lowercased().contains("transfer-encoding"))
        let authority = server.url.split(separator: "/")[1]
        for line in ["Host: \(authority)", "Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Asked: that"] {
            #expect(head.contains("\r\n\(line)\r\n"), "\(head)")
        }
    }

    /// NIO's own upgrade loses them when the end is there before its decoder has gone.
    @Test(arguments: [0, 1, 70_000, 3_000_000])
    func bytesThatComeWithTheAnswerAreReadAlsoWhenTheEndComesWithThem(_ count: Int) async throws {
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let server = try ScriptedServer { client, _ in
            TCPClient.sendAll(client, Array(ScriptedServer.switching.utf8) + data)
            shutdown(client, Int32(SHUT_WR))
            _ = TCPClient.readAll(client)
        }
        for _ in 0..<20 {
            let (_, bytes) = try await exchange(server.url)
            // Not compared within: a difference would be printed.
            let isSame = bytes == data
            #expect(isSame)
        }
    }

    @Test func eachDirectionEndsByItself() async throws {
        let server = try ScriptedServer { client, _ in
            TCPClient.sendAll(client, Array(ScriptedServer.switching.utf8))
            // Answers when all has come, and after its end.
            TCPClient.sendAll(client, TCPClient.readAll(client).reversed())
        }
        let data = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        let (_, bytes) = try await exchange(server.url, sent: data)
        let isSame = bytes == data.reversed()
        #expect(isSame)
    }

    @Test func aReaderThatIsSlowHoldsTheServerUp() async throws {
        let server = try ScriptedServer { client, _ in
            TCPClient.sendAll(client, Array(ScriptedServer.switching.utf8))
            var sent = 0
            var time = timeval(tv_sec: 1, tv_usec: 0)
            setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
            let part = [UInt8](repeating: 7, count: 1 << 20)
            while true {
                let count = send(client, part, part.count, Int32(MSG_NOSIGNAL))
                guard count > 0 else { break }
                sent += count
            }
            // Nobody reads: what was taken is in the kernel's buffers and in a few pieces here.
            #expect(sent < 64 << 20, "\(sent)")
            shutdown(client, Int32(SHUT_RDWR))
        }
        let (_, connection) = try await SessionConnector().connect(to: server.url, Self.upgrade)
        let count = try await connection.executeThenClose { inbound, _ in
            try await Task.sleep(for: .seconds(4))
            var count = 0
            for try await part in inbound { count += part.readableBytes }
            return count
        }
        #expect(count > 0)
    }

    @Test func aRefusalIsQuoted() async throws {
        let text = "no such stream: the token is unknown, used or expired\n"
        let error = try await refusal("HTTP/1.1 404 Not Found\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)")
        #expect(error?.code == .notFound)
        #expect(
            error?.message.hasSuffix(": the server answers 404 Not Found: no such stream: the token is unknown, used or expired") == true)
        let denied = try await refusal("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nv9 only")
        #expect(
            denied?.code == .permissionDenied && denied?.message.hasSuffix("403 Forbidden: v9 only") == true,
            "\(String(describing: denied))")
    }

    @Test func aRefusalWithoutEndIsCut() async throws {
        let server = try ScriptedServer { client, _ in
            TCPClient.sendAll(client, Array("HTTP/1.1 500 Internal Server Error\r\n\r\n".utf8))
            while TCPClient.sendAll(client, [UInt8](repeating: 0x78, count: 65536)) {}
        }
        let error = await #expect(throws: SwiftletError.self) { try await self.exchange(server.url) }
        #expect(error?.code == .failedPrecondition && (error?.message.utf8.count ?? 0) < 5000)
    }

    @Test(arguments: [
        "", "HTTP/1.1 101 Swit", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n" + String(repeating: "X: y\r\n", count: 200),
    ]) func whatIsNoUpgradeIsAnError(_ answer: String) async throws {
        let error = try await refusal(answer)
        #expect([.unavailable, .failedPrecondition].contains(error?.code), "\(String(describing: error))")
    }

    @Test func aSilentServerIsGivenUp() async throws {
        let server = try ScriptedServer { client, _ in _ = TCPClient.readAll(client) }
        let error = await #expect(throws: SwiftletError.self) {
            try await SessionConnector(timeout: .milliseconds(300)).connect(to: server.url, Self.upgrade) { _, _ in }
        }
        #expect(
            error?.code == .deadlineExceeded && error?.message.hasSuffix("no answer within 300 ms") == true, "\(String(describing: error))")
    }

    @Test func aConnectionThatIsRefusedSaysSo() async throws {
        let (descriptor, port) = try TCPClient.listen()
        close(descriptor)
        let error = await #expect(throws: SwiftletError.self) { try await self.exchange("http://127.0.0.1:\(port)/exec/x") }
        #expect(error?.code == .unavailable)
        #expect(error?.message.contains("connect to http://127.0.0.1:\(port): ") == true && error?.message.contains("refused") == true)
    }

    @Test func aCancelledTaskLeavesNoConnection() async throws {
        let server = try ScriptedServer { client, _ in _ = TCPClient.readAll(client) }
        let task = Task { try await self.exchange(server.url) }
        try await Task.sleep(for: .milliseconds(200))
        task.cancel()
        await #expect(throws: (any Error).self) { try await task.value }
    }

    @Test func addressesAreTakenApart() throws {
        let address = try SessionURL("https://[2001:db8::1]:10351/exec/a-b_c?x=%20y")
        #expect(address.host == "2001:db8::1" && address.port == 10351 && address.isTLS && address.isIPAddress)
        #expect(address.target == "/exec/a-b_c?x=%20y" && address.authority == "[2001:db8::1]:10351")
        let plain = try SessionURL("http://node.example/attach/t")
        #expect(plain.host == "node.example" && plain.port == 80 && !plain.isTLS && !plain.isIPAddress)
        for text in ["", "node:1/x", "ftp://node/x", "http:///x", "unix:///run/x"] {
            #expect(throws: SwiftletError.self, "\(text)") { try SessionURL(text) }
        }
    }
}
