import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

/// Sessions by swiftlet-streamd, with Debian's kubectl and a real guest.
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("stream", pod: { try await $0.runPod("sessions") }))
struct SessionTests {
    private func kubectl(_ arguments: [String], _ api: KubernetesStandIn, _ node: Node) throws -> Kubectl {
        try Kubectl(arguments, server: api, home: node.environment.scratch + "/home")
    }

    @Test func kubectlExecHasStreamsExitCodeAndStdin() async throws {
        let node = try node()
        let container = try await node.runContainer(in: try sharedPod(), "exec", ["/bin/sleep", "6000"])
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let apart = try kubectl(["exec", "p", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 37"], api, node)
        #expect(try await apart.exit() == 37, "\(apart.stderr)")
        #expect(apart.stdout == Data("out\n".utf8) && apart.stderr.hasPrefix("err\n"), "\(apart.stderr)")

        var random = SplitMix(seed: 7)
        let bytes = Data((0..<(2 << 20)).map { _ in UInt8.random(in: 0...255, using: &random) })
        let echo = try kubectl(["exec", "-i", "p", "--", "/bin/cat"], api, node)
        try echo.write(bytes)
        try echo.closeInput()
        #expect(try await echo.exit() == 0, "\(echo.stderr)")
        #expect(echo.stdout == bytes)

        let child = try kubectl(["exec", "p", "--", "/bin/sh", "-c", "sleep 300 & echo done"], api, node)
        #expect(try await child.exit() == 0 && child.stdout == Data("done\n".utf8), "\(child.stderr)")
        let missing = try kubectl(["exec", "p", "--", "/does/not/exist"], api, node)
        #expect(try await missing.exit() != 0 && missing.stderr.contains("/does/not/exist"), "\(missing.stderr)")
        try await node.removeContainer(container)
    }

    @Test func aSessionEndsItsProcessAndABadOneIsRefused() async throws {
        let node = try node()
        let container = try await node.runContainer(in: try sharedPod(), "refused", ["/bin/sleep", "6000"])
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let client = try kubectl(["exec", "-i", "p", "--", "/bin/sh", "-c", "echo up; exec sleep 4321"], api, node)
        try await eventually("it runs: \(client.stderr)") { client.stdout == Data("up\n".utf8) }
        client.process.terminate()
        try await eventually("the process ends with its client") {
            try await !node.shell(container, Self.processes).contains("sleep 4321")
        }
        let cri = try await node.cri
        func refusal(_ change: (inout CRIExecRequest) -> Void) async -> GRPCStatus.Code? {
            var request = CRIExecRequest.with {
                $0.containerID = container
                $0.cmd = ["/bin/true"]
                $0.stdout = true
            }
            change(&request)
            do {
                _ = try await cri.call(RuntimeRPC.exec, request)
                return nil
            } catch {
                return (error as? GRPCStatus)?.code
            }
        }
        #expect(await refusal { $0.cmd = [] } == .invalidArgument)
        #expect(await refusal { $0.stdout = false } == .invalidArgument)
        #expect(await refusal { ($0.tty, $0.stderr) = (true, true) } == .invalidArgument)
        #expect(await refusal { $0.containerID = "0123456789abcdef" } == .notFound)
        try await node.removeContainer(container)
        #expect(await refusal { _ in } == .notFound)
    }

    /// `script` gives kubectl a terminal, as a person has.
    @Test func aTerminalHasItsSizeFromTheFirstInstructionOn() async throws {
        let node = try node()
        let container = try await node.runContainer(in: try sharedPod(), "terminal", ["/bin/sleep", "6000"])
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let inside = "busybox stty size; echo err >&2; busybox test -t 0 && echo terminal; exit 5"
        let home = node.environment.scratch + "/home"
        let command =
            "stty cols 113 rows 37; HOME=\(home) exec \(Kubectl.path) --server=\(api.address) exec -it p -- /bin/sh -c '\(inside)'"
        let run = try await Spawn("/usr/bin/script", ["-qec", command, "/dev/null"]).run()
        // The terminal echoes the end of script's own input as "^@"; kubectl says the exit code last.
        let text = run.outputText.replacing("^@", with: "")
        #expect(text.hasPrefix("37 113\r\nerr\r\nterminal\r\n") && text.contains("exit code 5"), "\(text)")
        try await node.removeContainer(container)
    }

    @Test func kubectlCopiesFilesBothWays() async throws {
        let node = try node()
        let container = try await node.runContainer(in: try sharedPod(), "copied", ["/bin/sleep", "6000"])
        _ = try await node.shell(container, "[ -e /bin/tar ] || ln -s busybox /bin/tar; busybox mkdir -p /tmp")
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        var random = SplitMix(seed: 3)
        let bytes = Data((0..<1_000_001).map { _ in UInt8.random(in: 0...255, using: &random) })
        let home = node.environment.scratch + "/home"
        try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true)
        try bytes.write(to: URL(fileURLWithPath: home + "/there"))
        let into = try kubectl(["cp", home + "/there", "default/p:/tmp/copy"], api, node)
        #expect(try await into.exit() == 0, "\(into.stderr)")
        let out = try kubectl(["cp", "default/p:/tmp/copy", home + "/back"], api, node)
        #expect(try await out.exit() == 0, "\(out.stderr)")
        #expect(try Data(contentsOf: URL(fileURLWithPath: home + "/back")) == bytes)
        try await node.removeContainer(container)
    }

    @Test func kubectlForwardsPortsIntoTheGuest() async throws {
        let node = try node()
        let serve = "while true; do echo from the pod | nc -l -p 8080; done"
        let container = try await node.runContainer(in: try sharedPod(), "server", ["/bin/sh", "-c", serve])
        let api = try node.kubernetes(containers: [:], sandboxes: ["p": try sharedPod()])
        defer { api.stop() }
        let client = try kubectl(["port-forward", "p", ":8080"], api, node)
        var port: UInt16 = 0
        try await eventually("kubectl listens: \(client.stderr)") {
            let text = String(decoding: client.stdout, as: UTF8.self)
            port = text.firstMatch(of: /127\.0\.0\.1:(\d+) ->/).flatMap { UInt16($0.1) } ?? 0
            return port > 0
        }
        var answer = ""
        try await eventually("the pod answers: \(client.stderr)") {
            answer = String(decoding: try await Spawn("/bin/busybox", ["nc", "127.0.0.1", "\(port)"]).run().output, as: UTF8.self)
            return !answer.isEmpty
        }
        #expect(answer == "from the pod\n")
        client.process.terminate()
        _ = try await client.exit()
        try await node.removeContainer(container)
    }

    /// swiftletd ends again and again, and the session does not notice; when swiftlet-streamd has ended, the next session starts it.
    @Test func aSessionOutlivesTheDaemonAndTheNextOneStartsAStreamDaemonThatHasEnded() async throws {
        let node = try node()
        let container = try await node.runContainer(in: try sharedPod(), "echo", ["/bin/sleep", "6000"])
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let session = try kubectl(["exec", "-i", "p", "--", "/bin/cat"], api, node)
        try session.write(Data("0\n".utf8))
        try await eventually("it echoes: \(session.stderr)") { session.stdout == Data("0\n".utf8) }
        let before = try #require(node.streamDaemon)
        for round in 1...3 {
            await node.kill()
            try session.write(Data("\(round)\n".utf8))
            try await eventually("the session goes on without swiftletd: \(session.stderr)") {
                session.stdout.suffix(2) == Data("\(round)\n".utf8)
            }
            try await node.launch()
        }
        try session.closeInput()
        #expect(try await session.exit() == 0, "\(session.stderr)")
        #expect(session.stdout == Data("0\n1\n2\n3\n".utf8))
        for _ in 0..<2 {
            let again = try kubectl(["exec", "p", "--", "/bin/echo", "again"], api, node)
            #expect(try await again.exit() == 0, "\(again.stderr)")
            #expect(again.stdout == Data("again\n".utf8))
            let process = try #require(node.streamDaemon)
            process.kill()
            try await eventually("it has ended") { node.streamDaemon != process }
        }
        #expect(node.streamDaemon == nil && before.isAlive == false)
        try await node.removeContainer(container)
    }

    /// An orderly end of swiftlet-streamd ends its sessions' processes.
    @Test func theProcessesOfSessionsEndWithTheStreamDaemon() async throws {
        let node = try node()
        let container = try await node.runContainer(in: try sharedPod(), "orphans", ["/bin/sleep", "6000"])
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let session = try kubectl(["exec", "-i", "p", "--", "/bin/sh", "-c", "echo up; exec sleep 5432"], api, node)
        try await eventually("it runs: \(session.stderr)") { session.stdout == Data("up\n".utf8) }
        await node.endStreamDaemon()
        _ = try await session.exit()
        #expect(try await !node.shell(container, Self.processes).contains("sleep 5432"))
        try await node.removeContainer(container)
    }

    private static let processes = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done"
}
