import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import StreamFakes
import Support
import Testing

/// Swiftlet's agent in the guest of a VM pod, started by the seed from the tools disk.
extension VMTests {
    /// Runs a container whose guest is up.
    private func runVM(_ node: Node, _ name: String, _ annotations: [String: String] = [:]) async throws -> (pod: String, container: String)
    {
        let pod = try await node.runVMPod(name) { $0.annotations = annotations }
        let container = try await node.createVM(in: pod, name)
        try await node.start(container)
        try await guestIsUp(node, name)
        return (pod, container)
    }

    private func guestIsUp(_ node: Node, _ name: String, times: Int = 1) async throws {
        try await eventually("the guest says that it is up", within: .seconds(120)) {
            ((try? node.logText("\(name).log")) ?? "").components(separatedBy: SmallVM.ready).count > times
        }
    }

    /// Who has started a command of ExecSync.
    private static let parent = "cat /proc/$PPID/comm"

    private func agentAnswers(_ node: Node, _ container: String) async throws {
        try await eventually("Swiftlet's agent answers", within: .seconds(60)) {
            (try? await node.shell(container, Self.parent)) == "swiftlet-agent\n"
        }
    }

    /// One boot, and a second one in place, for all that a session may ask of the guest.
    @Test func sessionsRunInTheGuestByTheAgentOfTheToolsDisk() async throws {
        let node = try await nodeWithImage()
        let before = try await Footprint.now(node)
        let (pod, container) = try await runVM(node, "agent")
        try await agentAnswers(node, container)
        #expect(try await node.shell(container, "echo $HOME $USER; id -u; exit 0") == "/root root\n0\n")

        // Looked at again below.
        _ = try await node.shell(container, "date -s @86400")
        let program = node.environment.build + "/swiftlet"
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFTLET_ENDPOINT"] = node.endpoint
        func swiftlet(_ arguments: [String], input: [UInt8] = []) async throws -> Spawn.Result {
            try await Spawn(program, arguments, environment: environment, input: input, deadline: .seconds(60)).run()
        }
        let apart = try await swiftlet(["exec", container, "/bin/sh", "-c", "echo out; echo err >&2; exit 37"])
        #expect(apart.status == 37 && apart.outputText == "out\n" && apart.errorText.contains("err\n"), "\(apart)")
        var random = SplitMix(seed: 5)
        let bytes = (0..<(1 << 20)).map { _ in UInt8.random(in: 0...255, using: &random) }
        let echo = try await swiftlet(["exec", "-i", container, "/bin/cat"], input: bytes)
        let isSame = echo.output == bytes
        #expect(echo.status == 0 && isSame, "\(echo.errorText)")
        let child = try await swiftlet(["exec", container, "/bin/sh", "-c", "sleep 300 & echo done"])
        #expect(child.status == 0 && child.outputText == "done\n", "\(child)")
        let missing = try await swiftlet(["exec", container, "/no/such/program"])
        #expect(missing.status != 0 && missing.errorText.contains("/no/such/program"), "\(missing)")

        let session = "export SWIFTLET_ENDPOINT=\(node.endpoint); \(program) exec -it \(container)"
        let sized = try await LocalTerminal("\(session) /bin/sh -c 'stty size; tty; exit 7'; echo code $?").end()
        #expect(sized.contains("37 113") && sized.contains("code 7") && sized.contains { $0.hasPrefix("/dev/pts/") }, "\(sized)")
        let interrupted = try LocalTerminal("\(session) /bin/sh -c 'echo up; exec sleep 4321'; echo code $?")
        try await interrupted.shows("up")
        try await interrupted.type("\u{03}")
        // Behind the echo of what was typed.
        let end = try await interrupted.end()
        #expect(end.contains { $0.hasSuffix("code 130") }, "\(end)")

        // What the guest keeps to itself, which the pod's network does not reach.
        _ = try await node.shell(container, "echo kept >/root/page; httpd -p 127.0.0.1:9200 -h /root")
        let forward = try RunningCommand(
            program, ["--endpoint", node.endpoint, "port-forward", pod, ":9200"], environment: [:],
            in: node.environment.scratch + "/home")
        defer { forward.kill(SIGKILL) }
        let ports = try await forward.forwardedPorts(1)
        try await eventually("the guest's loopback answers: \(forward.errors)", within: .seconds(30)) {
            let answer = try await TCPClient.exchange(ports[0].local, Array("GET /page HTTP/1.0\r\n\r\n".utf8))
            return String(decoding: answer, as: UTF8.self).hasSuffix("kept\n")
        }
        let file = node.environment.scratch + "/agent-file"
        defer { unlink(file) }
        try Data("copied\n".utf8).write(to: URL(fileURLWithPath: file))
        let copied = try await swiftlet(["cp", file, "\(container):/root/copied"])
        #expect(copied.status == 0, "\(copied.errorText)")
        #expect(try await node.shell(container, "cat /root/copied") == "copied\n")

        let usage = try await node.cri.call(RuntimeRPC.podSandboxStats, .with { $0.podSandboxID = pod }).stats.linux
        #expect(usage.network.defaultInterface.name == "eth0" && usage.network.defaultInterface.rxBytes.value > 0, "\(usage.network)")
        func clockIsRight() async throws -> Bool {
            let time = Double(try await node.shell(container, "date +%s").trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
            return abs(time - Date().timeIntervalSince1970) < 5
        }
        try await eventually("the guest's clock is set while nothing else happens", within: .seconds(60)) { try await clockIsRight() }
        _ = try await node.shell(container, "date -s @86400")
        await node.kill()
        try await node.launch()
        try await eventually("a daemon that comes back sets the guest's clock at once", within: .seconds(20)) {
            try await clockIsRight()
        }
        try await agentAnswers(node, container)
        #expect(try await swiftlet(["exec", container, "/bin/echo", "again"]).outputText == "again\n")

        _ = try await node.shell(container, "reboot")
        try await guestIsUp(node, "agent", times: 2)
        try await agentAnswers(node, container)
        #expect(try await swiftlet(["exec", container, "/bin/echo", "rebooted"]).outputText == "rebooted\n")
        forward.kill(SIGKILL)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    @Test func aPodWithoutTheAgentRunsCommandsByQemusAndSaysWhatSessionsNeed() async throws {
        let node = try await nodeWithImage()
        let (pod, container) = try await runVM(node, "agentless", ["swiftlet/agent": "none"])
        try await eventually("qemu-guest-agent answers", within: .seconds(60)) {
            (try? await node.shell(container, Self.parent)) == "qemu-ga\n"
        }
        #expect(try await node.shell(container, "ls /dev/disk/by-id; ls /dev/vsock 2>/dev/null").contains("tools") == false)
        for (stdin, terminal) in [(true, false), (false, true)] {
            let refused = await refusal {
                _ = try await node.cri.call(
                    RuntimeRPC.exec,
                    .with {
                        ($0.containerID, $0.cmd) = (container, ["/bin/true"])
                        ($0.stdin, $0.stdout, $0.tty) = (stdin, true, terminal)
                    })
            }
            #expect(
                refused?.code == .failedPrecondition && refused?.message.contains("swiftlet/agent") == true
                    && refused?.message.contains("attach") == true
                    && refused?.message.contains("without stdin and terminal (-i, -t)") == true,
                "\(String(describing: refused))")
        }

        // Over SPDY.
        let api = try node.kubernetes(containers: ["p": container])
        defer { api.stop() }
        let home = node.environment.scratch + "/home"
        func kubectl(_ script: String) throws -> Kubectl {
            try Kubectl(["exec", "p", "--", "/bin/sh", "-c", script], server: api, home: home)
        }
        let apart = try kubectl("echo out; echo err >&2; exit 37")
        #expect(try await apart.exit() == 37, "\(apart.stderr)")
        #expect(apart.stdout == Data("out\n".utf8) && apart.stderr.hasPrefix("err\n"), "\(apart.stderr)")
        let large = try kubectl("head -c 3000000 /dev/zero; exit 3")
        #expect(try await large.exit() == 3, "\(large.stderr)")
        let isWhole = large.stdout == Data(count: 3_000_000)
        #expect(isWhole, "\(large.stdout.count) bytes")
        // Over a WebSocket.
        func swiftlet(_ command: [String]) async throws -> Spawn.Result {
            let arguments = ["--endpoint", node.endpoint, "exec", container] + command
            return try await Spawn(node.environment.build + "/swiftlet", arguments, deadline: .seconds(60)).run()
        }
        let both = try await swiftlet(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
        #expect(both.status == 3 && both.outputText == "out\n" && both.errorText.contains("err\n"), "\(both)")
        let missing = try await swiftlet(["/no/such/program"])
        #expect(missing.status != 0 && missing.errorText.contains("/no/such/program"), "\(missing)")
        let flood = try await swiftlet(["/bin/sh", "-c", "head -c 9000000 /dev/zero"])
        #expect(flood.status == 1 && flood.output.isEmpty && flood.errorText.contains("bytes"), "\(flood.errorText)")

        func runs(_ name: String) async throws -> Bool { try await node.shell(container, "ps").contains(name) }
        let left = try kubectl("exec sleep 4321")
        try await eventually("it runs", within: .seconds(20)) { try await runs("sleep 4321") }
        left.process.terminate()
        try await eventually("it ends with its client", within: .seconds(20)) { try await !runs("sleep 4321") }
        let told = try kubectl("exec sleep 5432")
        try await eventually("it runs", within: .seconds(20)) { try await runs("sleep 5432") }
        await node.kill()
        #expect(try await told.exit() == 1 && told.stderr.contains("swiftletd, which runs the command, has ended"), "\(told.stderr)")
        try await node.launch()
        let again = try kubectl("echo again")
        #expect(try await again.exit() == 0 && again.stdout == Data("again\n".utf8), "\(again.stderr)")

        _ = try await node.shell(container, "trap '' TERM HUP; (sleep 1; killall -STOP qemu-ga) >/dev/null 2>&1 &")
        try await Task.sleep(for: .seconds(2))
        let silent = await refusal {
            _ = try await node.cri.call(
                RuntimeRPC.exec,
                .with { ($0.containerID, $0.cmd, $0.stdout) = (container, ["/bin/true"], true) })
        }
        #expect(
            silent?.code == .unavailable && silent?.message.contains("no agent answers") == true,
            "\(String(describing: silent))")
        try await node.removePod(pod)
    }
}
