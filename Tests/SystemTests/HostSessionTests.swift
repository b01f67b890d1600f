import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import StreamFakes
import Support
import Testing

private let hostConfiguration = """
    [host]
    node_pods = "host"
    [[host.handlers]]
    name = "host"
    runtime = "runc"
    namespaces = ["test"]
    """

/// Sessions of pods on the node itself, with Debian's kubectl, runc and conmon.
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized,
    .node("hostsess", Node.Options(logSize: 200_000, host: hostConfiguration), pod: { try await $0.runHostPod("sessions") }))
struct HostSessionTests {
    private func run(
        _ name: String, _ command: [String] = ["/bin/sleep", "6000"], in pod: String? = nil,
        _ change: @Sendable (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        let node = try node()
        let id = try await node.createContainer(in: try pod ?? sharedPod(), name, command) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            change(&$0)
        }
        try await node.start(id)
        return id
    }

    private func kubectl(_ arguments: [String], _ api: KubernetesStandIn) throws -> Kubectl {
        try Kubectl(arguments, server: api, home: try node().environment.scratch + "/home")
    }

    private func isRunning(_ words: String, in container: String) async throws -> Bool {
        try await node().shell(container, SessionTests.processes).contains(words)
    }

    @Test func execHasStreamsExitCodeAndStdinAndChildrenHoldNothingUp() async throws {
        let container = try await run("exec")
        let api = try node().kubernetes(containers: ["p": container])
        defer { api.stop() }
        let apart = try kubectl(["exec", "p", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 37"], api)
        #expect(try await apart.exit() == 37, "\(apart.stderr)")
        #expect(apart.stdout == Data("out\n".utf8) && apart.stderr.hasPrefix("err\n"), "\(apart.stderr)")

        var random = SplitMix(seed: 7)
        let bytes = Data((0..<(2 << 20)).map { _ in UInt8.random(in: 0...255, using: &random) })
        let echo = try kubectl(["exec", "-i", "p", "--", "/bin/cat"], api)
        try echo.write(bytes)
        try echo.closeInput()
        #expect(try await echo.exit() == 0, "\(echo.stderr)")
        let isSame = echo.stdout == bytes
        #expect(isSame, "\(echo.stdout.count)")

        let large = try kubectl(["exec", "p", "--", "/bin/sh", "-c", "head -c 30000000 /dev/zero"], api)
        #expect(try await large.exit() == 0 && large.stdout.count == 30_000_000, "\(large.stderr)")
        // What it does not read is dropped, and its output is whole.
        for _ in 0..<5 {
            let brief = try kubectl(["exec", "-i", "p", "--", "/bin/sh", "-c", "head -c 10; echo end"], api)
            try brief.write(bytes.prefix(60_000))
            try brief.closeInput()
            #expect(try await brief.exit() == 0 && brief.stdout == bytes.prefix(10) + Data("end\n".utf8), "\(brief.stderr)")
        }
        for background in ["sleep 300", "while :; do echo more; done"] {
            let child = try kubectl(["exec", "p", "--", "/bin/sh", "-c", "(\(background)) & echo done"], api)
            #expect(try await child.exit() == 0 && child.stdout.starts(with: Data("done\n".utf8)), "\(background): \(child.stderr)")
        }
        let missing = try kubectl(["exec", "p", "--", "/does/not/exist"], api)
        #expect(try await missing.exit() != 0 && missing.stderr.contains("/does/not/exist"), "\(missing.stderr)")
        try await node().removeContainer(container)
    }

    @Test func aTerminalHasItsSizeFromTheFirstInstructionOnAndEachChange() async throws {
        let node = try node()
        let container = try await run("terminal")
        let program = node.environment.build + "/swiftlet"
        let inside =
            "trap 'busybox stty size; exit 5' WINCH; busybox stty size; echo $TERM; busybox test -t 0 && echo terminal; while :; do sleep 0.1; done"
        let terminal = try LocalTerminal(
            "export SWIFTLET_ENDPOINT=\(node.endpoint); \(program) exec -it \(container) /bin/sh -c \"\(inside)\"; echo code $?")
        try await terminal.shows("terminal")
        await terminal.shell.resize(.init(width: 90, height: 30))
        let lines = try await terminal.end()
        #expect(lines == ["37 113", "xterm", "terminal", "30 90", "code 5"], "\(lines)")
        let missing = try LocalTerminal(
            "export SWIFTLET_ENDPOINT=\(node.endpoint); \(program) exec -it \(container) /does/not/exist; echo code $?")
        let said = try await missing.end()
        #expect(said.contains { $0.contains("/does/not/exist") } && !said.contains("code 0"), "\(said)")
        try await node.removeContainer(container)
    }

    @Test func aProcessEndsWithItsSessionAlsoOfAClientThatDoesNotRead() async throws {
        let node = try node()
        let parent = "swiftlet-test-\(getpid())"
        // conmon's group is the pod's then, and goes with it.
        let pod = try await node.runHostPod("ending") { $0.linux.cgroupParent = "/\(parent)/ending" }
        let container = try await run("ending", in: pod)
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let client = try kubectl(["exec", "-i", "p", "--", "/bin/sh", "-c", "sleep 4322 & echo up; exec sleep 4321"], api)
        try await eventually("it runs: \(client.stderr)") { client.stdout == Data("up\n".utf8) }
        client.process.terminate()
        try await eventually("the process ends with its client") { try await !isRunning("sleep 432", in: container) }
        let flood = try kubectl(["exec", "p", "--", "/bin/sh", "-c", "while :; do echo flood; done"], api)
        try await eventually("it writes: \(flood.stderr)") { !flood.stdout.isEmpty }
        kill(flood.process.processIdentifier, SIGSTOP)
        try await Task.sleep(for: .seconds(1))
        try await node.stop(container, timeout: 1)
        try await node.removeContainer(container)
        kill(flood.process.processIdentifier, SIGCONT)
        #expect(try await flood.exit() != 0)
        try await node.stopPod(pod)
        try await node.removePod(pod)
        #expect(!FileManager.default.fileExists(atPath: "/sys/fs/cgroup/memory/\(parent)"))
        // What the runtime makes above the container's.
        for hierarchy in try FileManager.default.contentsOfDirectory(atPath: "/sys/fs/cgroup") {
            rmdir("/sys/fs/cgroup/\(hierarchy)/\(parent)/ending")
            rmdir("/sys/fs/cgroup/\(hierarchy)/\(parent)")
        }
    }

    /// Of containers whose input ends with its first client, of those whose does not, and of one with a terminal.
    @Test func kubectlAttachesBesideTheLog() async throws {
        let node = try node()
        let script = "while read line; do echo got $line; done; echo end of input"
        func container(_ name: String, once: Bool) async throws -> String {
            try await run(name, ["/bin/sh", "-c", script]) { ($0.stdin, $0.stdinOnce) = (true, once) }
        }
        let (lasting, once) = (try await container("attach", once: false), try await container("attach-once", once: true))
        let api = try node.kubernetes(containers: ["p": lasting, "once": once])
        defer { api.stop() }
        let viewer = try kubectl(["attach", "p"], api)
        let first = try kubectl(["attach", "-i", "p"], api)
        try first.write(Data("one\n".utf8))
        try await eventually("it is told: \(first.stderr)") { String(decoding: first.stdout, as: UTF8.self).contains("got one\n") }
        first.process.terminate()
        _ = try await first.exit()
        let second = try kubectl(["attach", "-i", "p"], api)
        try second.write(Data("two\n".utf8))
        try await eventually("the next one is told: \(second.stderr)") {
            String(decoding: second.stdout, as: UTF8.self).contains("got two\n")
        }
        try await eventually("who only watches sees it") { String(decoding: viewer.stdout, as: UTF8.self).contains("got two\n") }
        #expect(!String(decoding: second.stdout, as: UTF8.self).contains("one"))
        #expect(try await node.status(of: lasting).state == .containerRunning)
        #expect(try node.log("attach") == ["stdout F got one", "stdout F got two"])

        // Who only watches has no say over the input.
        let watcher = try kubectl(["attach", "once"], api)
        try await Task.sleep(for: .seconds(1))
        watcher.process.terminate()
        _ = try await watcher.exit()
        let only = try kubectl(["attach", "-i", "once"], api)
        try only.write(Data("three\n".utf8))
        try await eventually("it is told: \(only.stderr)") { String(decoding: only.stdout, as: UTF8.self).contains("got three\n") }
        try only.closeInput()
        #expect(try await only.exit() == 0, "\(only.stderr)")
        #expect(try await node.exit(of: once).exitCode == 0)
        #expect(try node.log("attach-once") == ["stdout F got three", "stdout F end of input"])
        try await node.stop(lasting, timeout: 0)
        #expect(try await viewer.exit() == 0, "\(viewer.stderr)")

        let reader = try await run(
            "attach-tty",
            ["/bin/sh", "-c", "read x; echo got $x; busybox stty size; trap 'busybox stty size' WINCH; while :; do sleep 0.1; done"]
        ) {
            ($0.stdin, $0.tty) = (true, true)
        }
        let program = node.environment.build + "/swiftlet"
        let terminal = try LocalTerminal("export SWIFTLET_ENDPOINT=\(node.endpoint); \(program) attach -i \(reader); echo code $?")
        try await Task.sleep(for: .seconds(1))
        try await terminal.type("hello\n")
        try await terminal.shows("37 113")
        await terminal.shell.resize(.init(width: 90, height: 30))
        try await terminal.shows("30 90")
        try await terminal.type("\u{10}\u{11}")
        let left = try await terminal.end()
        #expect(left.contains("got hello") && left.contains("code 0") && left.contains { $0.hasPrefix("detached from") }, "\(left)")
        #expect(try await node.status(of: reader).state == .containerRunning)
        for container in [lasting, once, reader] { try await node.removeContainer(container) }
    }

    /// Sessions go on without swiftletd; what has lost its session meanwhile is ended by the next one.
    @Test func sessionsOutliveTheDaemonAndNoProcessOutlivesItsSession() async throws {
        let node = try node()
        let container = try await run("surviving")
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let session = try kubectl(["exec", "-i", "p", "--", "/bin/cat"], api)
        let leaver = try kubectl(["exec", "-i", "p", "--", "/bin/sh", "-c", "echo up; exec sleep 4323"], api)
        let lasting = try kubectl(["exec", "-i", "p", "--", "/bin/sh", "-c", "echo up; exec sleep 4324"], api)
        try session.write(Data("0\n".utf8))
        for client in [leaver, lasting] {
            try await eventually("it runs: \(client.stderr)") { client.stdout == Data("up\n".utf8) }
        }
        // A session that swiftletd has not begun yet fails with it.
        try await eventually("it answers: \(session.stderr)") { session.stdout == Data("0\n".utf8) }
        for round in 1...2 {
            await node.kill()
            try session.write(Data("\(round)\n".utf8))
            try await eventually("the session goes on without swiftletd: \(session.stderr)") {
                session.stdout.suffix(2) == Data("\(round)\n".utf8)
            }
            if round == 1 {
                leaver.process.terminate()
                _ = try await leaver.exit()
            }
            try await node.launch()
        }
        try await eventually("what was left ends") { try await !isRunning("sleep 4323", in: container) }
        #expect(try await isRunning("sleep 4324", in: container))
        try session.closeInput()
        #expect(try await session.exit() == 0, "\(session.stderr)")
        #expect(session.stdout == Data("0\n1\n2\n".utf8))
        let process = try #require(node.streamDaemon)
        process.kill()
        _ = try await lasting.exit()
        try await eventually("processes end with swiftlet-streamd") { try await !isRunning("sleep 4324", in: container) }
        let next = try kubectl(["exec", "p", "--", "/bin/echo", "again"], api)
        #expect(try await next.exit() == 0 && next.stdout == Data("again\n".utf8), "\(next.stderr)")
        try await node.removeContainer(container)
    }

    @Test func oneContainersSessionsAreBounded() async throws {
        let node = try node()
        let container = try await run("greedy")
        let cri = try await node.cri
        let request = CRIExecRequest.with { ($0.containerID, $0.cmd, $0.stdout) = (container, ["/bin/true"], true) }
        var refusals: [GRPCStatus] = []
        for _ in 0..<70 {
            do {
                _ = try await cri.call(RuntimeRPC.exec, request)
            } catch let status as GRPCStatus {
                refusals.append(status)
            }
        }
        #expect(
            refusals.count == 6 && refusals.allSatisfy { $0.code == .resourceExhausted && $0.message.contains("has 64 sessions") },
            "\(refusals)")
        try await node.removeContainer(container)
    }

    /// Also over the daemon's end, and beside a kubelet that renames the file itself.
    @Test func aLogIsRotatedBySizeAndNoLineIsLost() async throws {
        let node = try node()
        let lines = 12_000
        let container = try await run(
            "rotated-host",
            [
                "/bin/sh", "-c",
                "i=0; while [ $i -lt \(lines) ]; do i=$((i+1)); echo line $i; [ $((i % 3000)) = 0 ] && sleep 1; done; sleep 4",
            ])
        try await eventually("it is rotated") { try files(node).count > 1 && files(node).contains("rotated-host.log") }
        await node.kill()
        try FileManager.default.moveItem(atPath: "\(node.logs)/rotated-host.log", toPath: "\(node.logs)/rotated-host.log.20200101-000000")
        try await node.launch()
        #expect(try await node.exit(of: container).exitCode == 0)
        let names = try files(node)
        #expect((3...5).contains(names.count) && names.contains("rotated-host.log"), "\(names)")
        let text = try names.map { try String(contentsOfFile: "\(node.logs)/\($0)", encoding: .utf8) }
        #expect(text.allSatisfy { $0.utf8.count < 600_000 })
        // A line that conmon has read in two pieces is two, of which the first has the tag P.
        let pieces = text.joined().split(separator: "\n").map { $0.split(separator: " ", maxSplits: 3) }.sorted { $0[0] < $1[0] }
        let said = pieces.map { ($0.count > 3 ? $0[3] : "") + ($0[2] == "F" ? "\n" : "") }.joined()
        let seen = said.split(separator: "\n").compactMap { Int($0.dropFirst("line ".count)) }
        let isWhole = seen.sorted() == Array(1...lines)
        #expect(isWhole, "\(seen.count) lines in \(names), the first \(seen.min() ?? 0), \(text.map(\.utf8.count)) bytes")
        try await node.removeContainer(container)
    }

    private func files(_ node: Node) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: node.logs).filter { $0.hasPrefix("rotated-host.log") }.sorted()
    }

    private func serve(_ listener: String) -> [String] {
        [
            "/bin/sh", "-c",
            "busybox mkdir -p /www; head -c 3000000 /dev/zero >/www/page; exec busybox httpd -f -p \(listener) -h /www",
        ]
    }

    /// Bytes of the page that is served; 0: nobody answers.
    private func page(_ port: UInt16) async throws -> Int {
        let answer = try await TCPClient.exchange(port, Array("GET /page HTTP/1.0\r\n\r\n".utf8))
        return answer.count { $0 == 0 }
    }

    private func forward(
        _ pod: String, _ ports: [String], _ body: ([(local: UInt16, remote: UInt16)], RunningCommand) async throws -> Void
    )
        async throws
    {
        let node = try node()
        let command = try RunningCommand(
            node.environment.build + "/swiftlet", ["--endpoint", node.endpoint, "port-forward", pod] + ports, environment: [:],
            in: node.environment.scratch + "/home")
        defer { command.kill(SIGKILL) }
        let forwarded = try await command.forwardedPorts(ports.count)
        try await body(forwarded.map { ($0.local, $0.remote) }, command)
        command.kill(SIGINT)
        #expect(await command.status() == 130)
    }

    /// Listeners of the loopback, of either family, and of the pod's address; also after the daemon has been killed.
    @Test func portsOfThePodsLoopbackAndAddressAreForwarded() async throws {
        let node = try node()
        let address = try await node.podStatus(try sharedPod()).status.network.ip
        var containers: [String] = []
        for listener in ["127.0.0.1:9100", "[::1]:9101", "\(address):9102"] {
            containers.append(try await run("server-\(listener.suffix(4))", serve(listener)))
        }
        try await forward(try sharedPod(), [":9100", ":9101", ":9102", ":9103"]) { ports, command in
            for port in ports.prefix(3) {
                try await eventually("port \(port.remote) answers: \(command.errors)") { try await self.page(port.local) == 3_000_000 }
            }
            #expect(try await TCPClient.exchange(ports[3].local, [1]) == [])
            try await eventually("it is told: \(command.errors)") { command.errors.contains("port 9103") }
            await node.kill()
            #expect(try await self.page(ports[0].local) == 0)
            try await node.launch()
            try await eventually("it answers again: \(command.errors)") { try await self.page(ports[0].local) == 3_000_000 }
        }
        for container in containers { try await node.removeContainer(container) }
    }

    @Test func portsOfThePodInTheNodesNetworkAreTheNodesLoopbacks() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("hostports") { $0.linux.securityContext.namespaceOptions.network = .node }
        _ = try await run("node-server", serve("127.0.0.1:9110"), in: pod) {
            $0.linux.securityContext.namespaceOptions.network = .node
        }
        try await forward(pod, [":9110"]) { ports, command in
            try await eventually("it answers: \(command.errors)") { try await self.page(ports[0].local) == 3_000_000 }
        }
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }
}
