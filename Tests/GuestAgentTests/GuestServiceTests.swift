import AgentClient
import AgentProtocol
import Errors
import Glibc
import Linux
import Runtime
import Testing

@testable import GuestAgent

/// The agent of a guest that is not its own, this machine, reached as the host reaches one.
@Suite(.serialized, .timeLimit(.minutes(2))) struct GuestServiceTests {
    private static let timeout = Duration.seconds(30)
    private static let container = AgentContract.guestContainer

    private let guest: TestGuest

    init() throws { guest = try TestGuest(guest: GuestProcesses()) }

    private func start(
        _ client: AgentClient, _ id: String, _ command: [String], terminal: Bool = false
    ) async throws -> AgentOutputStream {
        let token = AgentClient.token()
        _ = try await client.call(
            .exec,
            .with {
                ($0.containerID, $0.processID, $0.inherit) = (Self.container, id, true)
                ($0.process.args, $0.process.terminal, $0.process.stdin) = (command, terminal, terminal)
                ($0.process.terminalWidth, $0.process.terminalHeight) = (90, 30)
                $0.outputToken = .init(token)
            }, timeout: Self.timeout)
        return try await client.openOutput(token: token)
    }

    private static func currentDirectory() throws -> String {
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        guard getcwd(&path, path.count) != nil else { throw SwiftletError.system("getcwd") }
        return String(decoding: path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Runs a script to its end.
    private func shell(
        _ client: AgentClient, _ id: String, _ script: String, terminal: Bool = false
    ) async throws -> (stdout: String, stderr: String, code: UInt32) {
        let output = try await start(client, id, ["sh", "-c", script], terminal: terminal)
        let (stdout, stderr) = try await AgentServiceTests().collect(output)
        let exit = try await client.wait(containerID: Self.container, processID: id)
        return (String(decoding: stdout, as: UTF8.self), String(decoding: stderr, as: UTF8.self), exit.exitCode)
    }

    @Test func aGuestThatIsNotTheAgentsOwnIsServedInPart() async throws {
        let client = try await guest.connect()
        #expect(client.info.features.contains(AgentFeature.guest) && !client.info.features.contains(AgentFeature.containers))
        let refused: [@Sendable () async throws -> Void] = [
            { _ = try await client.call(.startSandbox, .with { $0.sandboxID = "one" }, timeout: Self.timeout) },
            { _ = try await client.call(.prepare, .init(), timeout: Self.timeout) },
            { _ = try await client.call(.createContainer, .with { $0.containerID = "c" }, timeout: Self.timeout) },
            { _ = try await client.call(.startContainer, .with { $0.containerID = Self.container }, timeout: Self.timeout) },
            { _ = try await client.call(.deleteContainer, .with { $0.containerID = Self.container }, timeout: Self.timeout) },
            { _ = try await client.call(.updateContainer, .with { $0.containerID = Self.container }, timeout: Self.timeout) },
            { _ = try await client.call(.grow, .init(), timeout: Self.timeout) },
            { _ = try await client.call(.shutdown, .init(), timeout: Self.timeout) },
        ]
        #expect(refused.count + AgentService.methodsOfGuests.count == AgentMethodName.allCases.count)
        for call in refused {
            let error = await #expect(throws: SwiftletError.self) { try await call() }
            #expect(error?.code == .unimplemented, "\(String(describing: error))")
        }
        let listed = try await client.call(.list, .init(), timeout: Self.timeout).containers
        #expect(listed.map(\.containerID) == [Self.container] && listed.first?.process.state == .running)
        let stats = try await client.call(.getStats, .init(), timeout: Self.timeout)
        #expect(stats.memoryTotalBytes > 64 << 20 && stats.memoryAvailableBytes > 0 && stats.scratch.totalBytes > 0)
        #expect(stats.containers.map(\.containerID) == [Self.container])
    }

    /// Process 1 is the guest's: nobody signals it, and nobody takes its output.
    @Test func theGuestsFirstProcessIsNotTheHosts() async throws {
        let client = try await guest.connect()
        let calls: [@Sendable () async throws -> Void] = [
            { _ = try await client.call(.signal, .with { ($0.containerID, $0.signal) = (Self.container, 15) }, timeout: Self.timeout) },
            {
                let request = AgentSignalRequest.with { ($0.containerID, $0.signal, $0.all) = (Self.container, 15, true) }
                _ = try await client.call(.signal, request, timeout: Self.timeout)
            },
            { _ = try await client.call(.deleteProcess, .with { $0.containerID = Self.container }, timeout: Self.timeout) },
            {
                let request = AgentOpenStreamRequest.with { ($0.containerID, $0.token) = (Self.container, .init(AgentClient.token())) }
                _ = try await client.call(.openStream, request, timeout: Self.timeout)
            },
            { _ = try await client.wait(containerID: Self.container, processID: "") },
        ]
        for call in calls { await #expect(throws: SwiftletError.self) { try await call() } }
    }

    @Test func commandsRunAsOfALoginOfRoots() async throws {
        // As of an agent that a shell has put in the background.
        let before = signal(SIGINT, SIG_IGN)
        defer { _ = signal(SIGINT, before) }
        let client = try await guest.connect()
        let apart = try await shell(client, "apart", "echo $PATH; echo $USER $TERM >&2; cat; pwd; exit 37")
        #expect(apart.stdout == "\(GuestProcesses.searchPath)\n\(try Self.currentDirectory())\n")
        #expect(apart.stderr == "root\n" && apart.code == 37)
        let home = try await shell(client, "home", "test \"$HOME\" != / && cd && pwd")
        #expect(home.code == 0, "\(home)")
        let interrupted = try await shell(client, "interrupted", "kill -INT $$; echo still here")
        #expect(interrupted.stdout.isEmpty && interrupted.code == 130, "ignored signals are not passed on")
        let descriptors = try await shell(client, "descriptors", "ls /proc/self/fd")
        #expect(descriptors.stdout == "0\n1\n2\n3\n", "3 is ls' own")
        let missing = await #expect(throws: SwiftletError.self) { _ = try await start(client, "missing", ["/no/such/program"]) }
        #expect(missing?.code == .notFound && missing?.message.contains("/no/such/program") == true, "\(String(describing: missing))")
        let refused = await #expect(throws: SwiftletError.self) { _ = try await start(client, "refused", ["/etc/passwd"]) }
        #expect(refused?.code == .invalidArgument, "\(String(describing: refused))")
    }

    @Test func aTerminalIsTheSessionsOwnAndHasItsSize() async throws {
        let client = try await guest.connect()
        let terminal = try await shell(
            client, "terminal", "tty; stty size; echo $TERM; exec </dev/tty && echo mine", terminal: true)
        #expect(terminal.stdout.hasPrefix("/dev/pts/") && terminal.stdout.hasSuffix("\r\n30 90\r\nxterm\r\nmine\r\n"), "\(terminal)")
        let output = try await start(
            client, "resized", ["sh", "-c", "trap 'stty size; exit 3' WINCH; echo up; while :; do sleep 0.1; done"], terminal: true)
        var text = ""
        for try await chunk in output {
            text += String(decoding: chunk.bytes, as: UTF8.self)
            output.acknowledge(stdout: UInt64(text.utf8.count), stderr: 0)
            guard text == "up\r\n" else { continue }
            _ = try await client.call(
                .resizeTerminal,
                .with { ($0.containerID, $0.processID, $0.width, $0.height) = (Self.container, "resized", 70, 20) }, timeout: Self.timeout)
        }
        #expect(text == "up\r\n20 70\r\n")
        #expect(try await client.wait(containerID: Self.container, processID: "resized").exitCode == 3)
    }

    /// Typed at a terminal; and a process that has ended before its input is opened, which is no failure.
    @Test func whatIsTypedReachesTheForeground() async throws {
        let client = try await guest.connect()
        let (output, input) = (AgentClient.token(), AgentClient.token())
        func start(_ id: String, _ script: String) async throws {
            _ = try await client.call(
                .exec,
                .with {
                    ($0.containerID, $0.processID, $0.inherit) = (Self.container, id, true)
                    ($0.process.args, $0.process.terminal, $0.process.stdin) = (["sh", "-c", script], true, true)
                    ($0.outputToken, $0.stdinToken) = (.init(output), .init(input))
                }, timeout: Self.timeout)
        }
        try await start("typed", "echo up; exec sleep 1000")
        let typed = try await client.openInput(token: input)
        for try await chunk in try await client.openOutput(token: output) where chunk.bytes.starts(with: "up".utf8) { break }
        try await typed.write([3])
        #expect(try await client.wait(containerID: Self.container, processID: "typed").exitCode == 130)

        try await start("short", "exit 7")
        #expect(try await client.wait(containerID: Self.container, processID: "short").exitCode == 7)
        let late = try await client.openInput(token: input)
        _ = try await AgentServiceTests().collect(try await client.openOutput(token: output))
        late.close()
    }

    @Test func childrenThatHoldTheOutputAreNotWaitedFor() async throws {
        let client = try await guest.connect()
        let began = ContinuousClock.now
        let result = try await shell(client, "parent", "sleep 60 & echo $!; exit 4")
        #expect(result.code == 4 && .now - began < .seconds(20))
        let child = try #require(pid_t(result.stdout.split(separator: "\n").first ?? ""))
        #expect(kill(child, 0) == 0, "it goes on")
        _ = try await client.call(
            .deleteProcess, .with { ($0.containerID, $0.processID) = (Self.container, "parent") }, timeout: Self.timeout)
        kill(child, SIGKILL)
    }
}
