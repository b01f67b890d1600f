import Errors
import Foundation
import Glibc
import Logging
import NIOCore
import StreamFakes
import StreamServer
import Support
import Synchronization
import Testing

@testable import StreamClient

@Suite(.timeLimit(.minutes(3))) struct CommandConnectionTests {
    /// What a command has written, by output.
    private final class Written: Sendable {
        private let bytes = Mutex<(out: [UInt8], err: [UInt8])>(([], []))
        var stdout: [UInt8] { bytes.withLock { $0.out } }
        var stderr: [UInt8] { bytes.withLock { $0.err } }
        var text: String { String(decoding: stdout, as: UTF8.self) }

        func take(_ output: CommandConnection.Output, _ part: ByteBuffer) {
            bytes.withLock { if output == .stdout { $0.out += part.readableBytesView } else { $0.err += part.readableBytesView } }
        }
    }

    private func withServer(
        tls: ServerConfiguration.TLSFiles? = nil, _ body: @Sendable (StreamServer, LocalBackend) async throws -> Void
    ) async throws {
        let backend = LocalBackend()
        var configuration = ServerConfiguration()
        configuration.tls = tls
        configuration.firstSizePatience = .seconds(60)
        let server = try await StreamServer.start(
            configuration, backend, logger: Logger(label: "streams") { _ in SwiftLogNoOpLogHandler() })
        let outcome: Result<Void, any Error>
        do { outcome = .success(try await body(server, backend)) } catch { outcome = .failure(error) }
        await server.stop()
        try outcome.get()
    }

    private func url(_ server: StreamServer, _ command: [String], stdin: Bool = false, tty: Bool = false) throws -> String {
        let set = try StreamSet(stdin: stdin, stdout: true, stderr: !tty, tty: tty)
        return try server.url(for: .exec(ExecRequest(containerID: "c", command: command, streams: set)))
    }

    @Test func stdinIsEchoedUntilItEnds() async throws {
        let bytes = Array(randomBytes(5_000_001, seed: 5))
        try await withServer { server, _ in
            let connection = try await SessionConnector().command(at: try url(server, ["cat"], stdin: true))
            #expect(connection.version == .v5)
            let written = Written()
            let code = try await connection.run {
                written.take($0, $1)
            } input: { input in
                try await input.write(ByteBuffer(bytes: bytes))
                try await input.end()
            }
            let isSame = written.stdout == bytes
            #expect(code == 0 && isSame)
        }
    }

    @Test func outputsAreApartAndTheExitCodeIsTheCommands() async throws {
        try await withServer { server, _ in
            for code in [Int32(0), 7, 126, 137] {
                let script = "echo out; echo err >&2; exit \(code)"
                let connection = try await SessionConnector().command(at: try url(server, ["/bin/sh", "-c", script]))
                let written = Written()
                #expect(
                    try await connection.run {
                        written.take($0, $1)
                    } input: { _ in
                    } == code)
                #expect(written.text == "out\n" && written.stderr == Array("err\n".utf8))
            }
        }
    }

    @Test func whatTheServerFailsWithIsTheError() async throws {
        try await withServer { server, _ in
            let connection = try await SessionConnector().command(at: try url(server, ["/does/not/exist"]))
            let error = await #expect(throws: SwiftletError.self) {
                try await connection.run { _, _ in
                } input: { _ in
                }
            }
            #expect(error?.message.contains("/does/not/exist cannot be executed") == true, "\(String(describing: error))")
            let used = try url(server, ["true"])
            #expect(
                try await SessionConnector().command(at: used).run { _, _ in
                } input: { _ in
                } == 0)
            let refused = await #expect(throws: SwiftletError.self) { try await SessionConnector().command(at: used) }
            #expect(refused?.code == .notFound && refused?.message.contains("the token is unknown, used or expired") == true)
        }
    }

    @Test func aTerminalHasItsSizes() async throws {
        try await withServer { server, backend in
            let script = #"stty size; until [ "$(stty size)" = "50 100" ]; do sleep 0.05; done; echo resized"#
            let connection = try await SessionConnector().command(at: try url(server, ["/bin/sh", "-c", script], stdin: true, tty: true))
            let written = Written()
            let code = try await connection.run {
                written.take($0, $1)
            } input: { input in
                try await input.resize(width: 90, height: 21)
                try await eventually("the first size is shown") { written.text.contains("21 90") }
                try await input.resize(width: 100, height: 50)
            }
            #expect(code == 0 && written.text.contains("resized"))
            #expect(backend.firstSizes == [TerminalSize(width: 90, height: 21)])
        }
    }

    @Test func aReaderThatIsSlowHoldsTheCommandUp() async throws {
        let count = 64 << 20
        try await withServer { server, backend in
            let connection = try await SessionConnector().command(at: try url(server, ["head", "-c", "\(count)", "/dev/zero"]))
            let received = Mutex(0)
            let isFirst = Mutex(true)
            let code = try await connection.run { _, part in
                if isFirst.withLock({ first in
                    defer { first = false }; return first
                }) {
                    try await Task.sleep(for: .seconds(2))
                    #expect(!backend.sessions[0].hasEnded.withLock { $0 })
                }
                received.withLock { $0 += part.readableBytes }
            } input: { _ in
            }
            #expect(code == 0 && received.withLock { $0 } == count)
        }
    }

    @Test func aCallerThatGivesUpEndsTheSession() async throws {
        struct Enough: Error {}
        try await withServer { server, backend in
            let connection = try await SessionConnector().command(at: try url(server, ["yes"]))
            await #expect(throws: Enough.self) {
                try await connection.run { _, _ in
                    throw Enough()
                } input: { _ in
                }
            }
            let other = try await SessionConnector().command(at: try url(server, ["sleep", "600"], stdin: true))
            await #expect(throws: Enough.self) {
                try await other.run { _, _ in
                } input: { _ in
                    try await eventually("it runs") { backend.sessions.count == 2 }
                    throw Enough()
                }
            }
            try await eventually("the processes end") { backend.sessions.allSatisfy { $0.hasEnded.withLock { $0 } } }
        }
    }

    @Test func aServerIsBelievedByItsCertificate() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "tls-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        func certificate(_ name: String) throws -> ServerConfiguration.TLSFiles {
            let files = ServerConfiguration.TLSFiles(certificate: "\(directory)/\(name).crt", key: "\(directory)/\(name).key")
            try TestCertificate.make("node", "IP:\(name)", certificate: files.certificate, key: files.key)
            return files
        }
        let (right, wrong) = (try certificate("127.0.0.1"), try certificate("192.0.2.1"))
        try await withServer(tls: right) { server, _ in
            let connection = try await SessionConnector(authorities: right.certificate).command(at: try url(server, ["echo", "hello"]))
            let written = Written()
            #expect(
                try await connection.run {
                    written.take($0, $1)
                } input: { _ in
                } == 0)
            #expect(written.text == "hello\n")
            for other in [nil, wrong.certificate] {
                let error = await #expect(throws: SwiftletError.self) {
                    try await SessionConnector(authorities: other).command(at: try self.url(server, ["true"]))
                }
                #expect(error?.code == .unavailable && error?.description.contains("CERTIFICATE_VERIFY_FAILED") == true)
            }
        }
        try await withServer(tls: wrong) { server, _ in
            let error = await #expect(throws: SwiftletError.self) {
                try await SessionConnector(authorities: wrong.certificate).command(at: try self.url(server, ["true"]))
            }
            #expect(error?.code == .unavailable, "\(String(describing: error))")
        }
        #expect(throws: SwiftletError.self) { try SessionConnector(authorities: directory + "/none") }
    }

    // MARK: Servers that are none of ours

    /// The outcome with a server that says this after its answer, in the same packet.
    private func outcome(_ said: [UInt8], version: String = "v4.channel.k8s.io") async throws -> (Result<Int32, any Error>, Written) {
        let server = try ScriptedServer { client, head in
            TCPClient.sendAll(client, ScriptedWebSocket.answer(head, version: version) + said)
            shutdown(client, Int32(SHUT_WR))
            _ = TCPClient.readAll(client)
        }
        let written = Written()
        do {
            let connection = try await SessionConnector().command(at: server.url)
            return (
                .success(
                    try await connection.run {
                        written.take($0, $1)
                    } input: { _ in
                    }), written
            )
        } catch {
            return (.failure(error), written)
        }
    }

    @Test func aSessionThatComesWithTheAnswerIsWhole() async throws {
        typealias Script = ScriptedWebSocket
        let fragments =
            Script.frame([1] + Array("a".utf8), isLast: false) + Script.frame([0x70], opcode: 9) + Script.frame(Array("b".utf8), opcode: 0)
        let greeting = Script.frame([1])
        let (result, written) = try await outcome(greeting + fragments + Script.text(2, "c") + Script.success + Script.close(1000))
        #expect(try result.get() == 0 && written.text == "ab" && written.stderr == Array("c".utf8))
        // An end without the closing handshake does not matter behind the status.
        #expect(try await outcome(Script.success).0.get() == 0)
    }

    @Test func aConnectionThatEndsWithoutAStatusIsAnError() async throws {
        typealias Script = ScriptedWebSocket
        let cut = Array(Script.text(1, "hello").dropLast(2))
        for said in [[], Script.text(1, "x"), cut, Script.close(1000), Script.close(1011), [0xFF, 0xFF], Script.frame([1], opcode: 5)] {
            let (result, _) = try await outcome(said)
            #expect(throws: SwiftletError.self, "\(said)") { try result.get() }
        }
        let words = try await outcome(Script.text(3, "it broke") + Script.close(1000)).0
        let error = #expect(throws: SwiftletError.self) { try words.get() }
        #expect(error?.message == "it broke")
        let other = try await outcome([], version: "v9.channel.k8s.io").0
        #expect(throws: SwiftletError.self) { try other.get() }
    }

    @Test func v4HasNoEndOfStdin() async throws {
        let server = try ScriptedServer { client, head in
            TCPClient.sendAll(client, ScriptedWebSocket.answer(head))
            _ = TCPClient.readAll(client)
        }
        let connection = try await SessionConnector().command(at: server.url)
        let error = await #expect(throws: SwiftletError.self) {
            try await connection.run { _, _ in
            } input: {
                try await $0.end()
            }
        }
        #expect(error?.code == .unimplemented)
    }
}
