import Errors
import Foundation
import Glibc
import Logging
import StreamFakes
import StreamServer
import Support
import Testing

/// exec and attach as they were built, with a streaming server whose containers are processes of this machine.
@Suite(.timeLimit(.minutes(4))) struct SessionTests {
    struct Stage: Sendable {
        let backend: LocalBackend
        let streams: StreamServer
        let endpoint: String

        /// A shell with a terminal, in which the command shows the terminal's mode before and after.
        func terminal(_ arguments: String) throws -> LocalTerminal {
            try LocalTerminal(
                "export SWIFTLET_ENDPOINT=\(endpoint); stty -g; \(try program()) \(arguments); echo code $?; stty -g")
        }
    }

    func withContainer(
        attached: [String] = ["/bin/sh", "-c", "echo ready; cat"], hasTerminal: Bool = false,
        _ body: @Sendable (Stage) async throws -> Void
    ) async throws {
        let backend = LocalBackend(attached: attached)
        var configuration = ServerConfiguration()
        configuration.firstSizePatience = .seconds(60)
        let streams = try await StreamServer.start(
            configuration, backend, logger: Logger(label: "streams") { _ in SwiftLogNoOpLogHandler() })
        let script = FakeDaemon.Script(runsUntilStopped: true)
        try await FakeDaemon.serve(script, streams: streams, hasTerminal: hasTerminal) { _, endpoint async throws in
            _ = try await swiftlet("run", "-q", "-d", "--name", "web", "busybox", endpoint: endpoint)
            try await body(Stage(backend: backend, streams: streams, endpoint: endpoint))
            _ = try await swiftlet("rm", "-f", "web", endpoint: endpoint)
        }
        await streams.stop()
    }

    /// The exit code, and whether the terminal's mode is what it was.
    private func outcome(_ lines: [String]) -> (code: String?, isRestored: Bool) {
        (lines.first { $0.hasPrefix("code ") }, LocalTerminal.isRestored(lines))
    }

    @Test func execHasOutputsApartAndTheExitCode() async throws {
        try await withContainer { stage in
            for separator in [[], ["--"]] {
                let command = ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]
                let result = try await swiftlet(["exec", "web"] + separator + command, endpoint: stage.endpoint)
                #expect(result.status == 7 && result.outputText == "out\n" && result.errorText == "err\n")
            }
            let missing = try await swiftlet("exec", "web", "/does/not/exist", endpoint: stage.endpoint)
            #expect(
                missing.status == 1 && missing.errorText.hasPrefix("swiftlet: running /does/not/exist in web: "), "\(missing.errorText)")
            #expect(missing.errorText.contains("cannot be executed"))
            let unknown = try await swiftlet("exec", "nobody", "true", endpoint: stage.endpoint)
            #expect(unknown.status == 1 && unknown.errorText.contains("nobody"))
        }
    }

    @Test func execPassesOnStdinToItsEnd() async throws {
        try await withContainer { stage in
            let bytes = Array(randomBytes(600_000, seed: 3))
            let result = try await swiftlet(["exec", "-i", "web", "cat"], input: bytes, endpoint: stage.endpoint)
            let isSame = result.output == bytes
            #expect(result.status == 0 && isSame)
            let without = try await swiftlet(["exec", "web", "wc", "-c"], input: bytes, endpoint: stage.endpoint)
            #expect(without.outputText == "0\n")
            let noTerminal = try await swiftlet(["exec", "-it", "web", "cat"], input: bytes, endpoint: stage.endpoint)
            #expect(noTerminal.status == 2 && noTerminal.errorText.contains("leave out -t"), "\(noTerminal.errorText)")
        }
    }

    @Test func aReaderThatLeavesEndsExecQuietly() async throws {
        try await withContainer { stage in
            let terminal = try LocalTerminal(
                "export SWIFTLET_ENDPOINT=\(stage.endpoint); (\(try program()) exec web yes; echo code $? >&2) | head -n 1; echo done")
            let lines = try await terminal.end()
            #expect(lines.contains("y") && lines.contains("done") && lines.contains("code 141") && lines.count == 3, "\(lines)")
            try await eventually("the command ends") { stage.backend.sessions.allSatisfy { $0.hasEnded.withLock { $0 } } }
        }
    }

    @Test func aTimeoutEndsTheCommand() async throws {
        try await withContainer { stage in
            for arguments in [["exec", "--timeout", "5s"], ["--timeout", "5s", "exec"]] {
                let result = try await swiftlet(arguments + ["web", "sleep", "600"], endpoint: stage.endpoint)
                #expect(
                    result.status == 1 && result.errorText.contains("running sleep in web: no answer within 5 s"), "\(result.errorText)")
            }
            try await eventually("the command ends") {
                stage.backend.sessions.count == 2 && stage.backend.sessions.allSatisfy { $0.hasEnded.withLock { $0 } }
            }
        }
    }

    @Test func aTerminalIsRawHasItsSizesAndIsRestored() async throws {
        try await withContainer { stage in
            let script = #"stty size; until [ "$(stty size)" = "50 100" ]; do sleep 0.05; done; echo resized; read x; echo "<$x>"; exit 3"#
            let terminal = try stage.terminal("exec -it web /bin/sh -c '\(script)'")
            try await terminal.shows("37 113\r\n")
            await terminal.shell.resize(TerminalSize(width: 100, height: 50))
            try await terminal.shows("resized")
            // In raw mode it is the command's terminal that echoes, and Ctrl-C is a key.
            try await terminal.type("hello\u{10}\u{7F}\u{7F}o\n")
            let lines = try await terminal.end()
            #expect(lines.contains("<hello>"), "\(lines)")
            let (code, isRestored) = outcome(lines)
            #expect(code == "code 3" && isRestored, "\(lines)")
        }
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGSEGV]) func aSignalRestoresTheTerminal(_ signal: Int32) async throws {
        try await withContainer { stage in
            let terminal = try stage.terminal("exec -it web /bin/sh -c 'stty -echo; echo ready; sleep 600'")
            try await terminal.shows("ready")
            kill(try terminal.child(), signal)
            let lines = try await terminal.end()
            let (code, isRestored) = outcome(lines)
            #expect(code == "code \(128 + signal)" && isRestored, "\(lines)")
            try await eventually("the command ends") { stage.backend.sessions.allSatisfy { $0.hasEnded.withLock { $0 } } }
        }
    }

    @Test func aLostConnectionRestoresTheTerminal() async throws {
        try await withContainer { stage in
            let terminal = try stage.terminal("exec -it web /bin/sh -c 'echo ready; sleep 600'")
            try await terminal.shows("ready")
            await stage.streams.stop()
            let lines = try await terminal.end()
            let (code, isRestored) = outcome(lines)
            #expect(code == "code 1" && isRestored, "\(lines)")
            #expect(lines.contains { $0.hasPrefix("swiftlet: running /bin/sh in web: ") }, "\(lines)")
        }
    }

    @Test func theKeysToDetachLeaveTheContainerRunning() async throws {
        try await withContainer(attached: ["/bin/sh", "-c", "echo ready; read x; echo got $x; sleep 600"], hasTerminal: true) { stage in
            let terminal = try stage.terminal("attach -i --detach-keys ctrl-a,x web")
            try await terminal.shows("ready")
            try await terminal.type("\u{1}y\n")
            try await terminal.shows("got \u{1}y")
            try await terminal.type("\u{1}x")
            let lines = try await terminal.end()
            let (code, isRestored) = outcome(lines)
            #expect(code == "code 0" && isRestored && lines.contains("detached from web"), "\(lines)")
        }
    }

    @Test func attachEndsWithTheContainer() async throws {
        try await withContainer(attached: ["/bin/sh", "-c", "read x; echo out $x; echo err >&2; exit 5"]) { stage in
            let result = try await swiftlet(["attach", "-i", "web"], input: Array("one\n".utf8), endpoint: stage.endpoint)
            #expect(result.status == 5 && result.outputText == "out one\n" && result.errorText == "err\n")
        }
    }
}
