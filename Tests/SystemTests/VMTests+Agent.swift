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
        let refused = await refusal {
            _ = try await node.cri.call(
                RuntimeRPC.exec,
                .with {
                    ($0.containerID, $0.cmd) = (container, ["/bin/true"])
                    $0.stdout = true
                })
        }
        #expect(
            refused?.code == .failedPrecondition && refused?.message.contains("swiftlet/agent") == true
                && refused?.message.contains("attach") == true, "\(String(describing: refused))")
        try await node.removePod(pod)
    }
}
