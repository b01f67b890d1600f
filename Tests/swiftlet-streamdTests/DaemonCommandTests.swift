import Errors
import Foundation
import LogCollection
import Logging
import Logs
import NIOCore
import Runtime
import StreamClient
import StreamControl
import StreamServer
import Support
import Synchronization
import Testing

@testable import swiftlet_streamd

/// Sessions whose commands swiftletd runs: both daemons' ends of the control socket, and a client over HTTP.
@Suite(.timeLimit(.minutes(2))) struct DaemonCommandTests {
    private final class Ground: Sendable {
        let commands: DaemonCommands
        let daemon: StreamDaemon
        private let directory = NSTemporaryDirectory() + "commands-\(UUID().uuidString.prefix(8))"
        private let control: StreamControlServer
        private let serving: Task<Void, Never>

        init(_ patience: DaemonCommands.Patience = .init()) throws {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let guests = Guests(culprits: Culprits(path: directory + "/culprits", logger: logger))
            let logs = LocalOutput(directory: directory, reader: EndpointOutput(links: guests.links, logger: logger), logger: logger)
            let commands = DaemonCommands(patience: patience)
            let backend = GuestBackend(guests: guests, logs: logs, commands: commands, logger: logger)
            let sessions = SessionPort(backend: backend, logger: logger)
            control = try StreamControlServer(
                path: directory + "/s",
                handler: StreamdControl(
                    sessions: sessions, positions: directory, guests: guests, logs: logs,
                    written: WrittenLogs(directory: directory, collector: LogCollectors(logger: logger), logger: logger),
                    collectors: LogCollectors(logger: logger),
                    commands: commands))
            serving = Task { await sessions.run() }
            daemon = StreamDaemon(
                configuration: .init(
                    binary: "/nonexistent", controlSocket: directory + "/s", sessions: .with { $0.address = "127.0.0.1:0" },
                    positions: directory, log: "/dev/null"), logger: logger)
            self.commands = commands
        }

        func end() async {
            daemon.close()
            control.stop()
            serving.cancel()
            await serving.value
            try? FileManager.default.removeItem(atPath: directory)
        }

        /// A URL whose command `run` runs.
        func url(stdout: Bool = true, stderr: Bool = true, _ run: @escaping SessionCommand) async throws -> String {
            let streams = SessionStreams(stdin: false, stdout: stdout, stderr: stderr, terminal: false)
            return try await daemon.exec(of: "c", in: "s", streams, run: run)
        }
    }

    private static func withGround(_ patience: DaemonCommands.Patience = .init(), _ body: (Ground) async throws -> Void) async throws {
        let ground = try Ground(patience)
        do { try await body(ground) } catch {
            await ground.end()
            throw error
        }
        await ground.end()
    }

    /// What a client has got.
    private final class Got: Sendable {
        private let bytes = Mutex<(out: [UInt8], err: [UInt8])>(([], []))
        var stdout: [UInt8] { bytes.withLock { $0.out } }
        var stderr: [UInt8] { bytes.withLock { $0.err } }

        func take(_ output: CommandConnection.Output, _ part: ByteBuffer) {
            bytes.withLock { if output == .stdout { $0.out += part.readableBytesView } else { $0.err += part.readableBytesView } }
        }
    }

    /// - Returns: the exit code.
    private static func run(_ url: String, _ got: Got = Got()) async throws -> Int32 {
        try await SessionConnector().command(at: url).run(output: { got.take($0, $1) }, input: { _ in })
    }

    @Test func bothOutputsAndTheExitCodeReachTheClient() async throws {
        try await Self.withGround { ground in
            let large = Array(randomText(3 << 20))
            for (stdout, stderr, code) in [(Array("out".utf8), Array("err".utf8), Int32(37)), (large, large, 0), ([], [], 255)] {
                let result = ExecResult(stdout: stdout, stderr: stderr, exitCode: code)
                let got = Got()
                let end = try await Self.run(try await ground.url { try await $0(result) }, got)
                let isSame = got.stdout == stdout && got.stderr == stderr
                #expect(end == code && isSame)
            }
            let result = ExecResult(stdout: large, stderr: large, exitCode: 1)
            let got = Got()
            #expect(try await Self.run(try await ground.url(stdout: false) { try await $0(result) }, got) == 1)
            let isSame = got.stdout.isEmpty && got.stderr == large
            #expect(isSame)
        }
    }

    private func randomText(_ count: Int) -> [UInt8] {
        var random = SplitMix(seed: 3)
        return (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    @Test func whatACommandFailsWithIsSaidBehindWhatWasKept() async throws {
        try await Self.withGround { ground in
            let got = Got()
            let cut = ExecResult(stdout: Array("kept".utf8), stderr: [], exitCode: 3, isCut: true)
            let error = await #expect(throws: SwiftletError.self) {
                try await Self.run(try await ground.url { try await $0(cut) }, got)
            }
            #expect(got.stdout == cut.stdout)
            #expect(error.map { "\($0)" }?.contains("more than the 4 bytes that were kept; it ended with exit code 3") == true)
            let failed = await #expect(throws: SwiftletError.self) {
                try await Self.run(try await ground.url { _ in throw SwiftletError(.unavailable, "no agent answers") })
            }
            #expect(failed.map { "\($0)" }?.contains("no agent answers") == true)
        }
    }

    /// A command that lasts until it is cancelled.
    private final class Lasting: Sendable {
        let state = Mutex((runs: 0, ended: 0))
        var runs: Int { state.withLock { $0.runs } }
        var ended: Int { state.withLock { $0.ended } }

        func run() async throws {
            state.withLock { $0.runs += 1 }
            defer { state.withLock { $0.ended += 1 } }
            try await Task.sleep(for: .seconds(3600))
        }
    }

    @Test func aClientThatLeavesEndsItsCommand() async throws {
        try await Self.withGround { ground in
            let lasting = Lasting()
            let url = try await ground.url { _ in try await lasting.run() }
            #expect(lasting.runs == 0)
            let client = Task { try await Self.run(url) }
            try await eventually("it runs") { lasting.runs == 1 }
            client.cancel()
            _ = await client.result
            try await eventually("it has ended") { lasting.ended == 1 }
        }
    }

    @Test func aDaemonThatEndsEndsItsCommandsAndTheClientsAreTold() async throws {
        try await Self.withGround { ground in
            let lasting = Lasting()
            let unused = try await ground.url { _ in try await lasting.run() }
            let url = try await ground.url { _ in try await lasting.run() }
            let client = Task { try await Self.run(url) }
            try await eventually("it runs") { lasting.runs == 1 }
            ground.daemon.close()
            let error = await #expect(throws: SwiftletError.self) { try await client.value }
            #expect(error.map { "\($0)" }?.contains("swiftletd, which runs the command, has ended") == true)
            try await eventually("it has ended") { lasting.ended == 1 }
            // A token is good for that long; its command is nobody's.
            let late = await #expect(throws: SwiftletError.self) { try await Self.run(unused) }
            #expect(late.map { "\($0)" }?.contains("has ended") == true)
            #expect(lasting.runs == 1)
        }
    }

    @Test func aSessionThatNobodyComesForOrAsksForIsGivenUp() async throws {
        let short = DaemonCommands.Patience(silence: .milliseconds(200), arrival: .milliseconds(200))
        try await Self.withGround(short) { ground in
            let lasting = Lasting()
            let url = try await ground.url { _ in try await lasting.run() }
            try await Task.sleep(for: .milliseconds(600))
            await #expect(throws: SwiftletError.self) { try await Self.run(url) }
            #expect(lasting.runs == 0)

            let streams = try StreamSet(stdin: false, stdout: true, stderr: false, tty: false)
            let address = try ground.commands.expect("silent")
            let name = try #require(DaemonCommands.name(in: address))
            let session = try ground.commands.begin(name, streams)
            let error = await #expect(throws: SwiftletError.self) { try await session.wait() }
            #expect(error?.code == .unavailable)
            #expect(try await session.stdout?.read() == nil)
            #expect(throws: SwiftletError.self) { try ground.commands.begin(name, streams) }
        }
    }

    @Test func wrongRequestsAreRefused() async throws {
        try await Self.withGround { ground in
            let client = try await ground.daemon.client()
            func refusal(_ change: (inout StreamPrepareExecRequest) -> Void) async -> SwiftletError.Code? {
                var request = StreamPrepareExecRequest.with {
                    ($0.containerID, $0.stdout) = ("c", true)
                    ($0.daemonCommand.sessionID, $0.daemonCommand.sandboxID) = ("name", "s")
                }
                change(&request)
                do {
                    _ = try await client.call(.prepareExec, request, timeout: .seconds(10))
                    return nil
                } catch { return (error as? SwiftletError)?.code }
            }
            #expect(await refusal { $0.stdin = true } == .invalidArgument)
            #expect(await refusal { $0.terminal = true } == .invalidArgument)
            #expect(await refusal { $0.daemonCommand.sessionID = "" } == .invalidArgument)
            #expect(await refusal { $0.daemonCommand.sessionID = String(repeating: "n", count: 65) } == .invalidArgument)
            #expect(await refusal { _ in } == nil)
            #expect(await refusal { _ in } == .invalidArgument)
            func delivery(_ name: String) async -> SwiftletError.Code? {
                do {
                    _ = try await client.call(.deliverOutput, .with { $0.sessionID = name }, timeout: .seconds(10))
                    return nil
                } catch { return (error as? SwiftletError)?.code }
            }
            #expect(await delivery("name") == .failedPrecondition)
            #expect(await delivery("other") == .notFound)
            let unknown = await #expect(throws: SwiftletError.self) {
                _ = try await client.call(.awaitSession, .with { $0.sessionID = "other" }, timeout: .seconds(10))
            }
            #expect(unknown?.code == .notFound)
        }
    }
}
