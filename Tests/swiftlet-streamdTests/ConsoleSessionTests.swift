import CLinux
import Errors
import Foundation
import Glibc
import Logging
import Logs
import NIOCore
import Runtime
import StreamServer
import Support
import Testing

@testable import swiftlet_streamd

/// Attached clients of a machine's console, as the stream server's backend serves them.
@Suite(.timeLimit(.minutes(2))) struct ConsoleSessionTests {
    /// QEMU's end: the console's file, and the port that serves one client.
    private final class PlayedMachine: Sendable {
        let directory = NSTemporaryDirectory() + "swiftlet-attach-\(UUID().uuidString.prefix(8))"
        private let listener = clinux_unix_socket()
        private let file: Int32

        init(_ past: [UInt8]) throws {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            guard clinux_unix_bind(listener, directory + "/port", 0o600) == 0, listen(listener, 1) == 0 else {
                throw SwiftletError.system("listen")
            }
            file = open(directory + "/console", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
            put(past)
        }

        deinit {
            for descriptor in [listener, file] { close(descriptor) }
            try? FileManager.default.removeItem(atPath: directory)
        }

        var endpoint: OutputEndpoint { .console(log: directory + "/console", socket: directory + "/port") }

        func put(_ bytes: [UInt8]) { _ = write(file, bytes, bytes.count) }

        /// The client that waits, or -1.
        func accept() -> Int32 { clinux_unix_accept(listener) }

        func backend() async throws -> GuestBackend {
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let guests = Guests(culprits: Culprits(path: directory + "/culprits", logger: logger))
            let logs = LocalOutput(directory: directory, reader: EndpointOutput(links: guests.links, logger: logger), logger: logger)
            try await logs.open(LogTarget(container: "c", directory: directory, path: "log"))
            try logs.follow("c", from: endpoint)
            return GuestBackend(guests: guests, logs: logs, logger: logger)
        }

        func request(stdin: Bool) throws -> AttachRequest {
            let streams = try StreamSet(stdin: stdin, stdout: true, stderr: false, tty: true)
            return AttachRequest(containerID: "c", address: endpoint.text, streams: streams, pod: "p")
        }
    }

    private func read(_ session: any ProcessSession, _ count: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count, let more = try await session.stdout?.read() { bytes += more.readableBytesView }
        return bytes
    }

    @Test func allClientsSeeTheLast64KiBAndWhatComesAndTypeIntoOnePort() async throws {
        let past = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 / 251) }
        let machine = try PlayedMachine(past)
        let backend = try await machine.backend()
        let first = try await backend.attach(try machine.request(stdin: true), size: TerminalSize(width: 80, height: 24))
        let second = try await backend.attach(try machine.request(stdin: true), size: nil)
        let watcher = try await backend.attach(try machine.request(stdin: false), size: nil)
        #expect(watcher.stdin == nil)
        for session in [first, second, watcher] { #expect(try await read(session, 65536) == past.suffix(65536)) }

        machine.put(Array("login: ".utf8))
        for session in [first, second, watcher] { #expect(try await read(session, 7) == Array("login: ".utf8)) }
        let port = machine.accept()
        defer { close(port) }
        #expect(machine.accept() < 0)
        for (session, text) in [(first, "ro"), (second, "ot\r")] {
            let stdin = try #require(session.stdin)
            try await stdin.write(ByteBuffer(string: text))
            var typed = [UInt8](repeating: 0, count: 8)
            try await eventually("it is typed") { Glibc.read(port, &typed, typed.count) == text.utf8.count }
            #expect(typed.starts(with: Array(text.utf8)))
        }
        // Who leaves takes nothing with them.
        await first.end()
        machine.put(Array("bye".utf8))
        for session in [second, watcher] { #expect(try await read(session, 3) == Array("bye".utf8)) }
        let waiting = Task { try await watcher.wait() }
        try await backend.logs.drained("c", hasEnded: true)
        #expect(try await waiting.value == 0)
        #expect(try await watcher.stdout?.read() == nil)
        await second.end()
        await watcher.end()
        backend.logs.close("c")
    }

    @Test func aClientWhoseSessionEndsReadsNoMore() async throws {
        let machine = try PlayedMachine([])
        let backend = try await machine.backend()
        let session = try await backend.attach(try machine.request(stdin: false), size: nil)
        let reading = Task { try await session.stdout?.read() }
        let waiting = Task { try await session.wait() }
        try await Task.sleep(for: .milliseconds(30))
        await session.end()
        #expect(try await reading.value == nil)
        _ = try await waiting.value
        backend.logs.close("c")
    }

    @Test func aRequestKeepsWhereItsConsoleAndItsPortsAre() throws {
        let console = OutputEndpoint.console(log: "/a b/console.log", socket: "/run/s")
        #expect(try OutputEndpoint(text: console.text, of: "c") == console)
        for ports: PortEndpoint in [.namespace(path: "/run/netns/p", address: "fd00::9"), .agent(.kernel(cid: 7))] {
            #expect(try PortEndpoint(text: ports.text) == ports)
        }
        for text in ["console:/only", "network:10.0.0.1", "", "nothing"] {
            #expect(throws: SwiftletError.self) { try OutputEndpoint(text: text, of: "c") }
            #expect(throws: SwiftletError.self) { try PortEndpoint(text: text) }
        }
    }
}
