import CLinux
import Errors
import Foundation
import Glibc
import Logging
import Logs
import NIOCore
import Runtime
import StreamControl
import StreamServer
import Support
import Testing

@testable import swiftlet_streamd

/// Clients of containers and processes on the node. The tests play conmon.
@Suite(.timeLimit(.minutes(2))) struct ConmonSessionTests {
    private final class PlayedConmon: Sendable {
        /// Longer than a socket's address can be.
        let directory = NSTemporaryDirectory() + "swiftlet-conmon-\(UUID().uuidString)-" + String(repeating: "d", count: 80)
        private let listener = clinux_unix_packet_socket()
        private let control: Int32

        init() throws {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            let parent = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC)
            defer { close(parent) }
            guard clinux_unix_bind(listener, "/proc/self/fd/\(parent)/attach", 0o700) == 0, listen(listener, 10) == 0,
                mkfifo(directory + "/ctl", 0o600) == 0, mkfifo(directory + "/session", 0o600) == 0
            else { throw SwiftletError.system("listen") }
            control = open(directory + "/ctl", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        }

        deinit {
            for descriptor in [listener, control] { close(descriptor) }
            try? FileManager.default.removeItem(atPath: directory)
        }

        func endpoint(hasInput: Bool) -> ConmonEndpoint {
            ConmonEndpoint(socket: directory + "/attach", control: directory + "/ctl", hasInput: hasInput)
        }

        var process: JoinableProcess {
            JoinableProcess(conmon: endpoint(hasInput: true), exitFile: directory + "/exit", sessionPipe: directory + "/session")
        }

        /// The next client.
        func accept() throws -> Client {
            let descriptor = clinux_unix_accept(listener)
            guard descriptor >= 0 else { throw SwiftletError.system("accept") }
            _ = fcntl(descriptor, F_SETFL, 0)
            return Client(descriptor: descriptor)
        }

        var order: String {
            var bytes = [UInt8](repeating: 0, count: 100)
            let count = Glibc.read(control, &bytes, bytes.count)
            return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        }

        /// Whether swiftletd would find the session.
        var hasSession: Bool {
            let pipe = open(directory + "/session", O_WRONLY | O_NONBLOCK | O_CLOEXEC)
            guard pipe >= 0 else { return false }
            close(pipe)
            return true
        }
    }

    private final class Client: Sendable {
        let descriptor: Int32

        init(descriptor: Int32) { self.descriptor = descriptor }

        deinit { close(descriptor) }

        /// With input that it has not read, as a process that ends.
        func end() {
            let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
            dup2(null, descriptor)
            close(null)
        }

        func put(_ text: String, _ stream: UInt8 = 2) { put(Array(text.utf8), stream) }

        func put(_ bytes: [UInt8], _ stream: UInt8 = 2) {
            let packet = [stream] + bytes
            let sent = send(descriptor, packet, packet.count, Int32(MSG_NOSIGNAL))
            #expect(sent == packet.count, "send: \(String(cString: strerror(errno)))")
        }

        /// A packet of input; empty: the client sends no more.
        func take() -> String {
            var bytes = [UInt8](repeating: 0, count: 32 << 10)
            let count = recv(descriptor, &bytes, bytes.count, 0)
            return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        }
    }

    private func attach(
        _ attachments: ConmonAttachments, _ conmon: PlayedConmon, stdin: Bool = false, once: Bool = false, size: TerminalSize? = nil
    ) async throws -> ConmonAttachment {
        let streams = try StreamSet(stdin: stdin, stdout: true, stderr: true, tty: false)
        let request = AttachRequest(containerID: "c", streams: streams, endsInput: once, pod: "p")
        return try await attachments.join(request, conmon.endpoint(hasInput: true), size: size)
    }

    private func read(_ source: (any ByteSource)?, _ count: Int) async throws -> String {
        var bytes: [UInt8] = []
        while bytes.count < count, let more = try await source?.read() { bytes += more.readableBytesView }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func allClientsShareOneConnectionAndLeaveTheContainerRunning() async throws {
        let (conmon, attachments) = (try PlayedConmon(), ConmonAttachments())
        let first = try await attach(attachments, conmon, stdin: true, size: TerminalSize(width: 90, height: 30))
        #expect(conmon.order == "1 30 90\n")
        let second = try await attach(attachments, conmon, stdin: true)
        let watcher = try await attach(attachments, conmon)
        #expect(watcher.stdin == nil)
        let client = try conmon.accept()
        #expect(throws: SwiftletError.self) { _ = try conmon.accept() }
        client.put("out")
        client.put("err", 3)
        for session in [first, second, watcher] {
            #expect(try await read(session.stdout, 3) == "out")
            #expect(try await read(session.stderr, 3) == "err")
        }
        try await first.stdin?.write(ByteBuffer(string: "one"))
        #expect(client.take() == "one")
        await first.stdin?.close()
        await first.end()
        try await second.stdin?.write(ByteBuffer(string: "two"))
        #expect(client.take() == "two")
        await second.resize(TerminalSize(width: 20_000, height: 5))
        #expect(conmon.order == "1 5 1000\n")
        await second.end()
        client.put("more")
        #expect(try await read(watcher.stdout, 4) == "more")
        await watcher.end()
        #expect(client.take() == "")
        // The next one has a connection of its own.
        let next = try await attach(attachments, conmon)
        let other = try conmon.accept()
        other.put("again")
        #expect(try await read(next.stdout, 5) == "again")
        shutdown(other.descriptor, Int32(SHUT_RDWR))
        #expect(try await next.stdout?.read() == nil)
        #expect(try await next.wait() == 0)
        await next.end()
    }

    @Test func whoOnlyWatchesDoesNotEndAnInputThatEndsWithItsFirstClient() async throws {
        let (conmon, attachments) = (try PlayedConmon(), ConmonAttachments())
        let watcher = try await attach(attachments, conmon, once: true)
        let client = try conmon.accept()
        await watcher.end()
        let typist = try await attach(attachments, conmon, stdin: true, once: true)
        #expect(throws: SwiftletError.self) { _ = try conmon.accept() }
        try await typist.stdin?.write(ByteBuffer(string: "in"))
        await typist.stdin?.close()
        #expect(client.take() == "in")
        #expect(client.take() == "")
        client.put("late")
        #expect(try await read(typist.stdout, 4) == "late")
        await typist.end()
    }

    @Test func aClientThatReadsTooSlowlyLosesBytesAndHoldsNobodyUp() async throws {
        let (conmon, attachments) = (try PlayedConmon(), ConmonAttachments())
        let (slow, quick) = (try await attach(attachments, conmon), try await attach(attachments, conmon))
        let client = try conmon.accept()
        let piece = [UInt8](repeating: 0x61, count: 8192)
        for _ in 0..<128 {
            client.put(piece)
            #expect(try await read(quick.stdout, piece.count).utf8.count == piece.count)
        }
        shutdown(client.descriptor, Int32(SHUT_RDWR))
        let seen = try await read(slow.stdout, .max)
        #expect(seen.utf8.count < 300_000 && seen.contains("bytes of output were lost"), "\(seen.utf8.count)")
        for session in [slow, quick] { await session.end() }
    }

    private func begin(_ commands: DaemonCommands) throws -> DaemonCommandSession {
        let address = try commands.expect("s")
        return try commands.begin(
            try #require(DaemonCommands.name(in: address)), StreamSet(stdin: true, stdout: true, stderr: true, tty: false),
            TerminalSize(width: 113, height: 37))
    }

    @Test func aJoinedProcessHasAllOfItsOutputAndItsExitCode() async throws {
        let (conmon, commands) = (try PlayedConmon(), DaemonCommands(patience: .init(silence: .milliseconds(100))))
        let session = try begin(commands)
        let writing = Task { try await session.stdin?.write(ByteBuffer(string: "early")) }
        #expect(try await commands.waitForClient(of: "s") == TerminalSize(width: 113, height: 37))
        #expect(!conmon.hasSession)
        try commands.join(conmon.process, "s")
        #expect(conmon.hasSession)
        let client = try conmon.accept()
        try await writing.value
        #expect(client.take() == "early")
        // swiftletd is not needed any more.
        try await Task.sleep(for: .milliseconds(400))
        // A client that does not read holds the process, and loses nothing.
        let piece = [UInt8](repeating: 0x61, count: 8192)
        let sending = Thread {
            for _ in 0..<256 { client.put(piece) }
            client.put("err", 3)
            try? "7".write(toFile: conmon.directory + "/exit", atomically: true, encoding: .utf8)
            shutdown(client.descriptor, Int32(SHUT_RDWR))
        }
        sending.start()
        try await Task.sleep(for: .milliseconds(200))
        #expect(!sending.isFinished)
        async let errors = read(session.stderr, .max)
        #expect(try await read(session.stdout, .max).utf8.count == 256 * 8192)
        #expect(try await errors == "err")
        #expect(try await session.wait() == 7)
        #expect(conmon.hasSession)
        await session.end()
        #expect(!conmon.hasSession)
        #expect(throws: SwiftletError.self) { try commands.join(conmon.process, "s") }
    }

    /// A process that takes no input may still have written something.
    @Test func inputThatNobodyTakesCostsNoOutput() async throws {
        let (conmon, commands) = (try PlayedConmon(), DaemonCommands())
        let session = try begin(commands)
        try commands.join(conmon.process, "s")
        let client = try conmon.accept()
        try await session.stdin?.write(ByteBuffer(string: "not read"))
        client.put("last")
        client.put("words", 3)
        try "0".write(toFile: conmon.directory + "/exit", atomically: true, encoding: .utf8)
        client.end()
        for _ in 0..<10 { try await session.stdin?.write(ByteBuffer(string: "dropped")) }
        await session.stdin?.close()
        let output = try await read(session.stdout, .max)
        #expect(output == "last")
        let errors = try await read(session.stderr, .max)
        #expect(errors == "words")
        #expect(try await session.wait() == 0)
        await session.end()
    }

    @Test func aProcessThatIsNotStartedFailsWithWhatSwiftletdSays() async throws {
        let (conmon, commands) = (try PlayedConmon(), DaemonCommands())
        let session = try begin(commands)
        try commands.join(conmon.process, "s")
        shutdown(try conmon.accept().descriptor, Int32(SHUT_RDWR))
        #expect(try await session.stdout?.read() == nil)
        try await commands.deliver(.with { ($0.sessionID, $0.failure) = ("s", "no such command") })
        let failure = await #expect(throws: SwiftletError.self) { _ = try await session.wait() }
        #expect(failure?.message == "no such command")
        await session.end()
    }
}
