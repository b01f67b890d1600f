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

    @Test func oneContainersSessionsLeaveRoomForOthers() async throws {
        let node = try node()
        let sandbox = try sharedPod()
        let (greedy, modest) = (
            try await node.runContainer(in: sandbox, "greedy", ["/bin/sleep", "6000"]),
            try await node.runContainer(in: sandbox, "modest", ["/bin/sleep", "6000"])
        )
        let cri = try await node.cri
        let request = CRIExecRequest.with { ($0.containerID, $0.cmd, $0.stdout) = (greedy, ["/bin/true"], true) }
        var refusals: [GRPCStatus] = []
        for _ in 0..<100 {
            do {
                _ = try await cri.call(RuntimeRPC.exec, request)
            } catch let status as GRPCStatus {
                refusals.append(status)
            }
        }
        #expect(
            refusals.count == 36 && refusals.allSatisfy { $0.code == .resourceExhausted && $0.message.contains("has 64 sessions") },
            "\(refusals)")
        let api = try node.kubernetes(containers: ["p": modest])
        defer { api.stop() }
        let served = try kubectl(["exec", "p", "--", "/bin/echo", "served"], api, node)
        #expect(try await served.exit() == 0 && served.stdout == Data("served\n".utf8), "\(served.stderr)")
        for container in [greedy, modest] { try await node.removeContainer(container) }
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

    @Test func kubectlAttachesBesideTheLog() async throws {
        let node = try node()
        let script = "while read line; do echo got $line; done; echo end of input"
        func container(_ name: String, once: Bool) async throws -> String {
            try await node.runContainer(in: try sharedPod(), name, ["/bin/sh", "-c", script]) { ($0.stdin, $0.stdinOnce) = (true, once) }
        }
        let (lasting, once) = (try await container("attach", once: false), try await container("attach-once", once: true))
        let api = try node.kubernetes(containers: ["p": lasting, "once": once])
        defer { api.stop() }
        let viewer = try kubectl(["attach", "p"], api, node)
        let first = try kubectl(["attach", "-i", "p"], api, node)
        try first.write(Data("one\n".utf8))
        try await eventually("it is told: \(first.stderr)") { String(decoding: first.stdout, as: UTF8.self).contains("got one\n") }
        first.process.terminate()
        _ = try await first.exit()
        let second = try kubectl(["attach", "-i", "p"], api, node)
        try second.write(Data("two\n".utf8))
        try await eventually("the next one is told: \(second.stderr)") {
            String(decoding: second.stdout, as: UTF8.self).contains("got two\n")
        }
        try await eventually("who only watches sees it") { String(decoding: viewer.stdout, as: UTF8.self).contains("got two\n") }
        #expect(!String(decoding: second.stdout, as: UTF8.self).contains("one"))
        #expect(try await node.status(of: lasting).state == .containerRunning)
        #expect(try node.log("attach") == ["stdout F got one", "stdout F got two"])

        let only = try kubectl(["attach", "-i", "once"], api, node)
        try only.write(Data("three\n".utf8))
        try await eventually("it is told: \(only.stderr)") { String(decoding: only.stdout, as: UTF8.self).contains("got three\n") }
        try only.closeInput()
        #expect(try await only.exit() == 0, "\(only.stderr)")
        #expect(try await node.exit(of: once).exitCode == 0)
        #expect(try node.log("attach-once") == ["stdout F got three", "stdout F end of input"])
        _ = try await node.cri.call(RuntimeRPC.stopContainer, .with { $0.containerID = lasting })
        #expect(try await viewer.exit() == 0, "\(viewer.stderr)")
        for container in [lasting, once] { try await node.removeContainer(container) }
    }

    /// The guest may come back for 20 s; not longer.
    @Test func anAttachToAKilledMachineEnds() async throws {
        let node = try node()
        let pod = try await node.runPod("left")
        let container = try await node.runContainer(in: pod, "ticking", ["/bin/sh", "-c", "while true; do echo tick; sleep 1; done"])
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let client = try kubectl(["attach", "p"], api, node)
        try await eventually("it is attached: \(client.stderr)") { !client.stdout.isEmpty }
        kill(try await node.machine(of: pod), SIGKILL)
        try await eventually("it ends", within: .seconds(45)) { !client.process.isRunning }
        _ = try await client.exit()
        try await node.stopPod(pod)
        try await node.removePod(pod)
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

    /// Both processes end again and again; neither the session nor the log notices the other's.
    @Test func aSessionOutlivesTheDaemonAndLogsOutliveBoth() async throws {
        let node = try node()
        let lines = 3000
        let count = "i=0; while [ $i -lt \(lines) ]; do i=$((i+1)); echo line $i; [ $((i % 20)) = 0 ] && sleep 0.05; done; exit 5"
        let counter = try await node.runContainer(in: try sharedPod(), "lasting", ["/bin/sh", "-c", count])
        let other = try await node.runContainer(in: try sharedPod(), "echo", ["/bin/sleep", "6000"])
        let api = try node.kubernetes(containers: ["p": other])
        defer { api.stop() }
        let session = try kubectl(["exec", "-i", "p", "--", "/bin/cat"], api, node)
        try session.write(Data("0\n".utf8))
        try await eventually("it echoes: \(session.stderr)") { session.stdout == Data("0\n".utf8) }
        let before = try #require(node.streamDaemon)
        for round in 1...3 {
            await node.kill()
            let seen = (try? node.log("lasting").count) ?? 0
            try session.write(Data("\(round)\n".utf8))
            try await eventually("the session goes on without swiftletd: \(session.stderr)") {
                session.stdout.suffix(2) == Data("\(round)\n".utf8)
            }
            if seen < lines { try await eventually("so does the log") { (try? node.log("lasting").count) ?? 0 > seen } }
            try await node.launch()
        }
        #expect(node.streamDaemon == before)
        try session.closeInput()
        #expect(try await session.exit() == 0, "\(session.stderr)")
        #expect(session.stdout == Data("0\n1\n2\n3\n".utf8))
        for _ in 0..<3 {
            let process = try #require(node.streamDaemon)
            process.kill()
            try await eventually("it is started again") { node.streamDaemon.map { $0 != process } ?? false }
        }
        #expect(try await node.exit(of: counter).exitCode == 5)
        let mode = try FileManager.default.attributesOfItem(atPath: node.logs + "/lasting.log")[.posixPermissions] as? Int
        #expect(mode == 0o640)
        #expect(try node.log("lasting") == (1...lines).map { "stdout F line \($0)" })
        for container in [counter, other] { try await node.removeContainer(container) }
    }

    @Test func aStreamDaemonThatHangsIsReplacedAndLogsGoOn() async throws {
        let node = try node()
        let script = "i=0; while [ ! -e /enough ]; do i=$((i+1)); echo line $i; sleep 0.1; done; echo end $i"
        let container = try await node.runContainer(in: try sharedPod(), "hanging", ["/bin/sh", "-c", script])
        try await node.waitForLog("hanging")
        let process = try #require(node.streamDaemon)
        _ = try process.signal(SIGSTOP)
        try await eventually("another one runs; \(node.tail(node.daemonLog))", within: .seconds(90)) {
            node.streamDaemon.map { $0 != process } ?? false
        }
        _ = try await node.shell(container, ": > /enough")
        _ = try await node.exit(of: container)
        let lines = try node.log("hanging")
        #expect(lines == (1..<lines.count).map { "stdout F line \($0)" } + ["stdout F end \(lines.count - 1)"])
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

    static let processes = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done"
}
