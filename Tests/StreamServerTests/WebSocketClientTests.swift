import Foundation
import StreamFakes
import Support
import Testing

@testable import StreamServer

/// `websockets` from PyPI, which shares no code with the server.
@Suite(.timeLimit(.minutes(5))) struct WebSocketClientTests {
    private struct Answer: Decodable {
        var `protocol`: String?
        var channels: [String: String]
        var messages: Int
        var code: Int?

        func text(_ channel: Int) -> String? { channels["\(channel)"].map { String(decoding: Self.bytes($0), as: UTF8.self) } }

        static func bytes(_ hex: String) -> [UInt8] {
            let digits = Array(hex)
            return stride(from: 0, to: digits.count - 1, by: 2).compactMap { UInt8(String(digits[$0...($0 + 1)]), radix: 16) }
        }
    }

    private func connect(
        _ node: StreamNode, _ url: String, _ version: String, _ messages: [(channel: Int, data: String)] = []
    ) async throws -> Answer {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        let python = file.deletingLastPathComponent().deletingLastPathComponent().appending(path: ".build/venv/bin/python").path
        let sent = messages.flatMap {
            ["\($0.channel)", $0.data.utf8.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()]
        }
        let result = try await node.run([python, file.appending(path: "websocket_client.py").path, url, version] + sent)
        try #require(result.status == 0, "\(result.stderr)")
        return try JSONDecoder().decode(Answer.self, from: result.stdout)
    }

    private static let command = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]

    @Test(arguments: ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
    func newVersionsTellTheExitCodeInAStatus(_ version: String) async throws {
        let node = try await StreamNode()
        let answer = try await connect(node, node.execURL(Self.command, stderr: true), version)
        #expect(answer.protocol == version && answer.code == 1000)
        #expect(answer.text(1) == "out\n" && answer.text(2) == "err\n")
        #expect(answer.text(3)?.contains(#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}"#) == true)
        let success = try await connect(node, node.execURL(["true"]), version)
        #expect(success.text(3) == #"{"metadata":{},"status":"Success"}"#)
        await node.stop()
        #expect(node.log.lines.isEmpty, "\(node.log.lines)")
    }

    @Test(arguments: ["channel.k8s.io", "base64.channel.k8s.io", ""]) func oldVersionsTellItInWords(_ version: String) async throws {
        let node = try await StreamNode()
        let answer = try await connect(node, node.execURL(Self.command, stderr: true), version)
        #expect(answer.protocol ?? "" == version && answer.code == 1000)
        #expect(answer.text(1) == "out\n" && answer.text(2) == "err\n")
        #expect(answer.text(3) == "command terminated with non-zero exit code: exit status 3")
        await node.stop()
    }

    @Test func stdinEndsByTheCloseSignal() async throws {
        let node = try await StreamNode()
        let answer = try await connect(
            node, node.execURL(["cat"], stdin: true), "v5.channel.k8s.io", [(0, "one "), (0, "two"), (255, "\0")])
        #expect(answer.text(1) == "one two")
        await node.stop()
    }

    @Test func stdinAndSizesPassInBase64() async throws {
        let node = try await StreamNode { $0.firstSizePatience = .seconds(60) }
        let answer = try await connect(
            node, node.execURL(["/bin/sh", "-c", "stty -echo; stty size; read line; echo got $line"], stdin: true, tty: true),
            "v4.base64.channel.k8s.io", [(4, #"{"Width":90,"Height":21}"#), (0, "hello\n")])
        #expect(answer.text(1)?.contains("21 90\r\n") == true && answer.text(1)?.contains("got hello\r\n") == true, "\(answer)")
        await node.stop()
    }

    @Test func aPortHasTwoChannelsThatBeginWithItsNumber() async throws {
        let node = try await StreamNode()
        let echo = try EchoServer(dollarEnds: true) { bytes in bytes.map { $0 &+ 1 } }
        let request = try PortForwardRequest(sandboxID: "p", ports: [Int32(echo.port)])
        for version in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
            let answer = try await connect(node, node.server.url(for: .portForward(request)), version, [(0, "HAL$")])
            let prefix = [UInt8(echo.port & 0xFF), UInt8(echo.port >> 8)]
            #expect(Answer.bytes(answer.channels["0"] ?? "") == prefix + Array("IBM%".utf8), "\(answer)")
            #expect(Answer.bytes(answer.channels["1"] ?? "") == prefix)
            #expect(answer.protocol == version && answer.code == 1000)
        }
        echo.stop()
        let refused = try await connect(node, node.server.url(for: .portForward(request)), "v4.channel.k8s.io")
        #expect(refused.text(1)?.contains("forward to port \(echo.port) of pod sandbox p: connect") == true, "\(refused)")
        await node.stop()
    }
}
