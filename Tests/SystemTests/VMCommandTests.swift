import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import StreamFakes
import Support
import Testing

/// `swiftlet vm` with the small VM.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(15)), .serialized, .node("vmcli"))
struct VMCommandTests {
    private func swiftlet(_ arguments: String..., environment more: [String: String] = [:]) async throws -> Spawn.Result {
        let node = try SystemTests.node()
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFTLET_ENDPOINT"] = node.endpoint
        environment["SWIFTLET_LOGS"] = node.logs
        environment.merge(more) { $1 }
        return try await Spawn(
            node.environment.build + "/swiftlet", arguments, environment: environment, deadline: .seconds(150)
        ).run()
    }

    private struct Listing: Decodable {
        struct Machine: Decodable {
            var id: String
            var pod: String
            var state: String
            var vcpus: Int?
            var memory: Int?
            var pid: Int?
            var vnc: String?
        }

        var machines: [Machine]
    }

    private func listed(_ arguments: String...) async throws -> [Listing.Machine] {
        let node = try SystemTests.node()
        let result = try await Spawn(
            node.environment.build + "/swiftlet", ["--endpoint", node.endpoint, "vm", "list", "-o", "json"] + arguments,
            environment: ProcessInfo.processInfo.environment
        ).check()
        return try JSONDecoder().decode(Listing.self, from: Data(result.output)).machines
    }

    private func isUp(_ log: String, times: Int = 1) async throws {
        let node = try SystemTests.node()
        try await eventually("the guest says that it is up", within: .seconds(120)) {
            ((try? node.logText(log)) ?? "").components(separatedBy: SmallVM.ready).count > times
        }
    }

    private func console(_ node: Node, _ arguments: String) throws -> LocalTerminal {
        try LocalTerminal(
            "export SWIFTLET_ENDPOINT=\(node.endpoint); \(node.environment.build)/swiftlet vm console \(arguments); echo code $?")
    }

    /// One boot, a second by the reset button, and a third by the power button.
    @Test func oneMachineIsListedLookedAtTypedToPausedAndBootedAgain() async throws {
        let node = try SystemTests.node()
        try await node.loadSmallVM()
        let pod = try await node.runVMPod("control")
        let container = try await node.createVM(in: pod, "control") { $0.tty = true }
        let early = try await swiftlet("vm", "pause", "control")
        #expect(early.status == 1 && early.errorText.contains("does not run"), "\(early.errorText)")
        try await node.start(container)
        try await isUp("control.log")

        let text = try await swiftlet("vm", "list")
        #expect(text.outputText.contains("test/control") && text.outputText.contains("128Mi"), "\(text)")
        let machine = try await listed().first
        #expect(machine?.id == container && machine?.state == "running" && machine?.memory == 128 << 20 && machine?.vcpus == 1)
        let process = try await node.machine(of: pod)
        #expect(machine?.pid == Int(process))
        let xml = try await swiftlet("vm", "dumpxml", "control")
        #expect(xml.status == 0 && xml.outputText.hasPrefix("<domain"), "\(xml)")
        #expect(xml.outputText.contains("<name>swiftlet-\(container.prefix(13))</name>"))

        try await looksAtTheScreen(machine?.vnc)
        try await typesAtTheConsole(node)
        try await isPaused(pod, node)

        let check = try await swiftlet("vm", "disk", "check", "control")
        #expect(check.status == 0 && check.outputText.contains("root") && check.outputText.contains("ok"), "\(check)")

        let reset = try await swiftlet("vm", "reset", "control")
        #expect(reset.status == 0 && reset.outputText == "control\n", "\(reset)")
        try await isUp("control.log", times: 2)
        // Nothing listens to the power button yet: the first press is lost.
        let reboot = try await swiftlet("vm", "reboot", String(container.prefix(13)))
        #expect(reboot.status == 0, "\(reboot)")
        try await isUp("control.log", times: 3)
        #expect(try await node.status(of: container).state == .containerRunning)
        #expect(try await node.machine(of: pod) == process)

        // A paused machine ends within its grace period.
        #expect(try await swiftlet("vm", "pause", "control").status == 0)
        let began = ContinuousClock.now
        try await node.stop(container, timeout: 3)
        #expect(ContinuousClock.now - began < .seconds(20))
        #expect(try await node.status(of: container).exitCode == 137)
        #expect(try await listed().isEmpty)
        #expect(try await listed("-a").first?.state == "exited")
        let late = try await swiftlet("vm", "reset", container)
        #expect(late.status == 1 && late.errorText.contains("is exited"), "\(late.errorText)")
        let disk = try await swiftlet("vm", "disk", "check", "control", "-o", "json")
        #expect(disk.status == 0 && disk.outputText.contains(#""running" : false"#), "\(disk)")
        try await node.removePod(pod)
    }

    private func looksAtTheScreen(_ socket: String?) async throws {
        let node = try SystemTests.node()
        let printed = try await swiftlet("vm", "vnc", "control")
        #expect(printed.outputText == "\(socket ?? "")\n" && printed.outputText.hasPrefix("/"), "\(printed)")
        let file = "\(node.environment.scratch)/screen.png"
        let screenshot = try await swiftlet("vm", "vnc", "--screenshot", file, "control")
        #expect(screenshot.status == 0, "\(screenshot.errorText)")
        let picture = try Data(contentsOf: URL(fileURLWithPath: file))
        // PNG's signature, and the IHDR with width and height (PNG specification, 11.2.2).
        #expect(picture.prefix(8) == Data([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]))
        let size = picture.dropFirst(16).prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        #expect((320...4096).contains(size >> 32) && (200...4096).contains(size & 0xFFFF_FFFF), "\(size >> 32) x \(size & 0xFFFF_FFFF)")
        try FileManager.default.removeItem(atPath: file)

        let proxy = try RunningCommand(
            node.environment.build + "/swiftlet", ["--endpoint", node.endpoint, "vm", "vnc", "--proxy", "0", "control"], environment: [:],
            in: node.environment.scratch + "/home")
        defer { proxy.kill(SIGKILL) }
        try await eventually("the proxy says its port: \(proxy.errors)") { proxy.output.hasSuffix("\n") }
        let port = try #require(UInt16(proxy.output.split(separator: ":").last?.dropLast() ?? ""))
        let greeting = try await Self.greeting(of: port)
        #expect(String(decoding: greeting, as: UTF8.self).hasPrefix("RFB 003."), "\(greeting)")
        proxy.kill(SIGINT)
        #expect(await proxy.status() == 128 + SIGINT)
    }

    /// The guest's shell asks the terminal for its width at each prompt, and may take what is typed then for the answer: it is typed again.
    private func type(_ text: String, at terminal: LocalTerminal, until shown: String) async throws {
        try await eventually("\(shown) is shown: \(terminal.text.debugDescription)") {
            try await terminal.type(text)
            try? await eventually("it is shown", within: .seconds(5)) { terminal.text.contains(shown) }
            return terminal.text.contains(shown)
        }
    }

    /// The server speaks first (RFC 6143, 7.1.1).
    private static func greeting(of port: UInt16) async throws -> [UInt8] {
        try await TCPClient.onThread {
            let socket = try TCPClient.connect(port)
            defer { close(socket) }
            var bytes = [UInt8](repeating: 0, count: 12)
            let count = recv(socket, &bytes, bytes.count, Int32(MSG_WAITALL))
            return Array(bytes.prefix(max(count, 0)))
        }
    }

    private func typesAtTheConsole(_ node: Node) async throws {
        let terminal = try console(node, "control")
        // The console's last lines come first.
        try await terminal.shows(SmallVM.ready)
        try await type("echo sum $((40 + 2))\n", at: terminal, until: "sum 42")
        try await terminal.type("\u{1D}")
        let left = try await terminal.end()
        #expect(left.contains("code 0") && left.contains { $0.hasPrefix("detached from") }, "\(left)")
    }

    private func isPaused(_ pod: String, _ node: Node) async throws {
        for _ in 1...2 {
            let paused = try await swiftlet("vm", "pause", "control")
            #expect(paused.status == 0 && paused.outputText == "control\n", "\(paused)")
        }
        func halt() async throws -> String {
            try await eventually("the pod says that it is paused") { "\(try await node.details(of: pod))".contains("is paused") }
            return try await node.cri.call(RuntimeRPC.status, .init()).status.conditions.first { $0.type == "PodsRunning" }?.message ?? ""
        }
        #expect(try await halt().contains("test/control"))
        #expect(try await listed().first?.state == "paused")
        let reboot = try await swiftlet("vm", "reboot", "control")
        #expect(reboot.status == 1 && reboot.errorText.contains("paused"), "\(reboot.errorText)")
        // It is paused still after a restart of the daemon.
        await node.kill()
        try await node.launch()
        #expect(try await halt().contains("swiftlet vm resume"))
        #expect(try await listed().first?.state == "paused")
        let resumed = try await swiftlet("vm", "resume", "control")
        #expect(resumed.status == 0, "\(resumed)")
        try await eventually("the pod goes on") {
            try await node.cri.call(RuntimeRPC.status, .init()).status.conditions.first { $0.type == "PodsRunning" }?.status == true
        }
        #expect(try await listed().first?.state == "running")
    }

    /// One boot: joined, left, listed, entered by a stand-in for ssh, and removed.
    @Test func runBootsADiskAndJoinsItsConsole() async throws {
        let node = try SystemTests.node()
        try await node.loadSmallVM()
        let before = try await Footprint.now(node)
        let program = node.environment.build + "/swiftlet"
        let run = "run -it --name machine --runtime-handler vm -m 128m --annotation swiftlet/graphics=none --detach-keys ctrl-]"
        let terminal = try LocalTerminal(
            "export SWIFTLET_ENDPOINT=\(node.endpoint) SWIFTLET_LOGS=\(node.logs); \(program) \(run) \(VMTests.image); echo code $?")
        try await terminal.shows(SmallVM.ready)
        try await type("echo sum $((40 + 2))\n", at: terminal, until: "sum 42")
        try await terminal.type("\u{1D}")
        let left = try await terminal.end()
        #expect(left.contains("code 0") && left.contains { $0.hasPrefix("detached from machine") }, "\(left)")
        let machine = try #require(try await listed().first)
        #expect(machine.state == "running" && machine.vnc == nil)
        let vnc = try await swiftlet("vm", "vnc", "machine")
        #expect(vnc.status == 1 && vnc.errorText.contains("no screen"), "\(vnc.errorText)")

        // The pod's port through Swiftlet, spoken to as ssh does.
        _ = try await node.shell(machine.id, "nc -ll -p 22 -e /bin/cat </dev/null >/dev/null 2>&1 &")
        let directory = node.environment.scratch + "/ssh"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try """
        #!/bin/sh
        for word; do case $word in ProxyCommand=*) exec sh -c "exec ${word#ProxyCommand=}";; esac; done

        """.write(toFile: directory + "/ssh", atomically: true, encoding: .utf8)
        chmod(directory + "/ssh", 0o755)
        let bytes = Array(randomBytes(300_001, seed: 6))
        var environment = ProcessInfo.processInfo.environment
        environment["PATH"] = directory + ":/usr/sbin:/usr/bin:/bin"
        var answer: Spawn.Result?
        try await eventually("the guest listens", within: .seconds(30)) {
            answer = try await Spawn(
                program, ["--endpoint", node.endpoint, "vm", "ssh", "machine"], environment: environment, input: bytes
            ).run()
            return answer?.output.isEmpty == false
        }
        let isSame = answer?.output == bytes
        #expect(answer?.status == 0 && isSame, "\(answer?.output.count ?? 0) bytes, \(answer?.errorText ?? "")")

        try "ssh-ed25519 AAAA key\n".write(toFile: directory + "/key.pub", atomically: true, encoding: .utf8)
        let added = try await swiftlet("vm", "ssh", "--add-key", directory + "/key.pub", "root@machine")
        #expect(added.status == 0 && added.outputText == "1 key of root added\n", "\(added)")
        #expect(try await node.shell(machine.id, "cat /root/.ssh/authorized_keys").contains("ssh-ed25519 AAAA key"))
        let nobody = try await swiftlet("vm", "ssh", "--add-key", directory + "/key.pub", "nobody-here@machine")
        #expect(nobody.status == 1 && nobody.errorText.contains("nobody-here"), "\(nobody.errorText)")

        // The log has what the console showed, and rm takes all away.
        #expect(try await swiftlet("logs", "machine").outputText.contains("sum 42"))
        let removed = try await swiftlet("rm", "-f", "machine")
        #expect(removed.status == 0, "\(removed.errorText)")
        try await before.expectNothingAdded(node)
    }

    /// Without `-it` the console is followed, and the machine's end is the command's.
    @Test func runFollowsAMachineToItsEnd() async throws {
        let node = try SystemTests.node()
        try await node.loadSmallVM()
        let before = try await Footprint.now(node)
        let script = "VirtletCloudInitUserDataScript=#!/bin/sh\n(sleep 3; poweroff) &\n"
        let result = try await swiftlet(
            "run", "-q", "--name", "short", "--runtime-handler", "vm", "-m", "128m", "--annotation", script, VMTests.image)
        #expect(result.status == 0 && result.outputText.contains(SmallVM.ready), "\(result)")
        let wrong = try await swiftlet("run", "-q", "--runtime-handler", "vm", "--annotation", "swiftlet/firmware=coreboot", VMTests.image)
        #expect(wrong.status == 1 && wrong.errorText.contains("swiftlet/firmware"), "\(wrong.errorText)")
        try await before.expectNothingAdded(node)
    }

    @Test func containersOfAPodThatIsNoMachineAndWrongNamesAreRefused() async throws {
        let node = try SystemTests.node()
        let pod = try await node.runPod("plain")
        let container = try await node.runContainer(in: pod, "box", ["/bin/sleep", "600"])
        let xml = try await swiftlet("vm", "dumpxml", "plain")
        #expect(xml.status == 0 && xml.outputText.contains("<domain"), "\(xml.errorText)")
        let cases = [
            ["reset", "plain"], ["pause", "box"], ["vnc", "--screenshot", "/dev/null", "plain"], ["disk", "check", "box"],
        ]
        for arguments in cases {
            let result = try await Spawn(
                node.environment.build + "/swiftlet", ["--endpoint", node.endpoint, "vm"] + arguments,
                environment: ProcessInfo.processInfo.environment
            ).run()
            #expect(result.status == 1 && result.errorText.contains("is no virtual machine of its own"), "\(result.errorText)")
        }
        let console = try await swiftlet("vm", "console", "plain")
        #expect(console.status == 1 && console.errorText.contains("see swiftlet exec"), "\(console.errorText)")
        #expect(try await listed("-a").allSatisfy { $0.pod != "plain" })
        for (id, code) in [
            (container, GRPCStatus.Code.invalidArgument), (String(repeating: "0", count: 64), .notFound), ("?", .invalidArgument),
        ] {
            let refused = await refusal {
                _ = try await node.cri.call(
                    OperatorRPC.controlMachine,
                    .with {
                        $0.id = id
                        $0.action = .pause
                    })
            }
            #expect(refused?.code == code, "\(String(describing: refused))")
        }
        for (keys, user) in [([], "root"), (["ssh-rsa A\nssh-rsa B"], "root"), (["ssh-rsa A"], "a b")] {
            let refused = await refusal {
                _ = try await node.cri.call(
                    OperatorRPC.addAuthorizedKeys,
                    .with {
                        ($0.id, $0.keys, $0.user) = (container, keys, user)
                    })
            }
            #expect(refused?.code == .invalidArgument, "\(String(describing: refused))")
        }
        let action = await refusal { _ = try await node.cri.call(OperatorRPC.controlMachine, .with { $0.id = container }) }
        #expect(action?.code == .invalidArgument && action?.message.contains("action 0") == true, "\(String(describing: action))")
        let unknown = try await swiftlet("vm", "pause", "nobody")
        #expect(unknown.status == 1 && unknown.errorText.contains("nobody"), "\(unknown.errorText)")
        try await node.removePod(pod)
    }
}
