import CRI
import Foundation
import GRPC
import Testing

/// One pod in one machine, shared by the tests of what containers can do in it.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("pods"))
struct PodTests {
    @Test func aPodRunsAContainerAndKeepsItsLogAndExitCode() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runPod("first") {
            $0.labels = ["app": "demo"]
            $0.annotations = ["note": "yes"]
        }
        let status = try await node.podStatus(pod, verbose: true)
        #expect(status.status.state == .sandboxReady)
        #expect(status.status.network.ip.hasPrefix("10.88."))
        #expect(status.status.labels == ["app": "demo"])
        #expect(status.info["info"]?.contains("qemu") == false)
        let container = try await node.createContainer(in: pod, "hello", ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"])
        #expect(try await node.status(of: container).state == .containerCreated)
        try await node.start(container)
        let exit = try await node.exit(of: container)
        #expect(exit.exitCode == 7 && exit.reason == "Error")
        #expect(exit.createdAt <= exit.startedAt && exit.startedAt <= exit.finishedAt)
        #expect(Set(try node.log("hello")) == ["stdout F out", "stderr F err"])
        try await node.stopPod(pod)
        try await node.stopPod(pod)
        #expect(try await node.podStatus(pod).status.state == .sandboxNotready)
        try await node.removePod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    @Test func containersOfAPodShareItsMachine() async throws {
        let node = try node()
        let pod = try await node.runPod("shared") { $0.linux.securityContext.namespaceOptions.pid = .pod }
        let server = try await node.runContainer(in: pod, "server", ["/bin/sh", "-c", "while true; do echo served | nc -l -p 8080; done"]) {
            $0.linux.securityContext.namespaceOptions.pid = .pod
        }
        let client = try await node.runContainer(in: pod, "client", ["/bin/sleep", "600"]) {
            $0.linux.securityContext.namespaceOptions.pid = .pod
        }
        try await checkSharedNetwork(node, client)
        try await checkIdentity(node, client)
        try await checkSharedProcesses(node, client)
        try await checkExec(node, client)
        try await checkProcessSettings(node, pod)
        try await checkFailures(node, pod)
        try await checkStop(node, pod, server)
        try await node.removePod(pod)
    }

    private func checkSharedNetwork(_ node: Node, _ client: String) async throws {
        let answer = try await node.shell(
            client, "for i in $(seq 50); do nc -w 2 127.0.0.1 8080 </dev/null 2>/dev/null && break; sleep 0.2; done")
        #expect(answer == "served\n")
    }

    private func checkIdentity(_ node: Node, _ client: String) async throws {
        #expect(try await node.shell(client, "hostname") == "shared\n")
        #expect(try await node.shell(client, "cat /etc/resolv.conf") == "search test.svc\nnameserver 10.88.0.1\noptions ndots:5\n")
        #expect(try await node.shell(client, "grep shared /etc/hosts").contains("10.88."))
        #expect(try await node.shell(client, "ping -c 1 -w 5 10.88.0.1 >/dev/null && echo reached") == "reached\n")
    }

    private func checkSharedProcesses(_ node: Node, _ client: String) async throws {
        let processes = try await node.shell(client, "ps -o args")
        #expect(processes.contains("nc -l -p 8080") && processes.contains("sleep 600"))
    }

    private func checkExec(_ node: Node, _ client: String) async throws {
        let result = try await node.exec(client, ["/bin/sh", "-c", "echo a; echo b >&2; exit 42"])
        #expect(String(decoding: result.stdout, as: UTF8.self) == "a\n")
        #expect(String(decoding: result.stderr, as: UTF8.self) == "b\n")
        #expect(result.exitCode == 42)
        let timeout = await #expect(throws: GRPCStatus.self) { try await node.exec(client, ["/bin/sleep", "987"], timeout: 1) }
        #expect(timeout?.code == .deadlineExceeded)
        let sleepers = try await node.shell(
            client,
            """
            for i in 1 2 3 4 5 6 7 8 9 10; do ps -o args | grep -q '[s]leep 987' || break; sleep 0.2; done
            ps -o args | grep -c '[s]leep 987'
            """)
        #expect(sleepers == "0\n")
        try await checkExecEndsWithItsCommand(node, client)
        let missing = await #expect(throws: GRPCStatus.self) { try await node.exec(client, ["/no/such/command"]) }
        #expect(missing?.message.contains("/no/such/command") == true)
        let large = try await node.exec(client, ["/bin/sh", "-c", "dd if=/dev/zero bs=1M count=17 2>/dev/null"])
        #expect(large.stdout.count == (16 << 20) - 1024)
    }

    private func checkExecEndsWithItsCommand(_ node: Node, _ client: String) async throws {
        // A child that holds the output open goes on.
        let script = "sleep 986 & dd if=/dev/zero bs=1024 count=600 2>/dev/null; echo end; exit 5"
        let held = try await node.exec(client, ["/bin/sh", "-c", script], timeout: 30)
        #expect(held.exitCode == 5 && held.stdout.count == (600 << 10) + 4 && held.stdout.suffix(4) == Data("end\n".utf8))
        #expect(try await node.shell(client, "ps -o args | grep -c '[s]leep 986'") == "1\n")
        // One that is cut off goes with its children.
        let cut = await refusal { _ = try await node.exec(client, ["/bin/sh", "-c", "sleep 985 & sleep 985; true"], timeout: 1) }
        #expect(cut?.code == .deadlineExceeded)
        let cri = try await node.cri
        let cancelled = Task {
            try await cri.call(
                RuntimeRPC.execSync,
                .with {
                    $0.containerID = client
                    $0.cmd = ["/bin/sh", "-c", "sleep 984; true"]
                })
        }
        let count = "ps -o args | grep -c '[s]leep 98[45]'"
        let runs = "for i in $(seq 50); do ps -o args | grep -q '[s]leep 984' && break; sleep 0.1; done; \(count)"
        #expect(try await node.shell(client, runs) != "0\n")
        cancelled.cancel()
        _ = try? await cancelled.value
        let ends = "for i in $(seq 50); do ps -o args | grep -q '[s]leep 98[45]' || break; sleep 0.1; done; \(count)"
        #expect(try await node.shell(client, ends) == "0\n")
    }

    private func checkProcessSettings(_ node: Node, _ pod: String) async throws {
        let script =
            "echo $GREETING; pwd; id -u; id -g; id -G; grep CapEff /proc/self/status; touch /x; ls /proc/kcore; printf %s \"$RAW\" | od -An -tx1"
        let container = try await node.runContainer(in: pod, "settings", ["/bin/sh", "-c", script]) {
            $0.envs = [
                .with {
                    $0.key = "GREETING"
                    $0.value = Data("hello world".utf8)
                },
                .with {
                    $0.key = "RAW"
                    $0.value = Data([0x66, 0xFF, 0xFE])
                },
            ]
            $0.workingDir = "/made/for/me"
            $0.linux.securityContext = .with {
                $0.runAsUser.value = 1000
                $0.runAsGroup.value = 2000
                $0.supplementalGroups = [3000]
                $0.readonlyRootfs = true
                $0.capabilities.dropCapabilities = ["ALL"]
            }
        }
        _ = try await node.exit(of: container)
        let log = try node.log("settings")
        #expect(
            log.prefix(5) == ["stdout F hello world", "stdout F /made/for/me", "stdout F 1000", "stdout F 2000", "stdout F 2000 50 3000"])
        #expect(log.contains { $0.hasSuffix("CapEff:\t0000000000000000") })
        #expect(log.contains { $0.contains("Read-only file system") })
        #expect(log.contains("stdout F  66 ff fe"), "\(log)")
    }

    private func checkFailures(_ node: Node, _ pod: String) async throws {
        for (name, command, workingDirectory, expected) in [
            ("missing", ["/no/such/program"], "", "/no/such/program"), ("notexec", ["/etc/passwd"], "", "/etc/passwd"),
            ("badcwd", ["/bin/true"], "/etc/passwd/sub", "/etc/passwd/sub"),
        ] {
            let container = try await node.createContainer(in: pod, name, command) { $0.workingDir = workingDirectory }
            let error = await #expect(throws: GRPCStatus.self) { try await node.start(container) }
            #expect(error?.message.contains(expected) == true, "\(name): \(error?.message ?? "")")
            let status = try await node.status(of: container)
            #expect(status.state == .containerExited && status.reason == "ContainerCannotRun" && status.exitCode == 128)
            #expect(status.message.contains(expected) && status.startedAt == 0 && status.finishedAt >= status.createdAt)
        }
        let absent = await #expect(throws: GRPCStatus.self) {
            try await node.createContainer(in: pod, "absent", ["/bin/true"], image: "localhost/none:1")
        }
        #expect(absent?.code == .notFound && absent?.message.contains("localhost/none:1") == true)
    }

    private func checkStop(_ node: Node, _ pod: String, _ server: String) async throws {
        let deaf = try await node.runContainer(in: pod, "deaf", ["/bin/sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 1; done"])
        try await node.waitForLog("deaf")
        _ = try await node.cri.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = deaf
                $0.timeout = 1
            })
        let killed = try await node.status(of: deaf)
        #expect(killed.exitCode == 137, "\(killed)")
        _ = try await node.cri.call(RuntimeRPC.removeContainer, .with { $0.containerID = server })
        _ = try await node.cri.call(RuntimeRPC.removeContainer, .with { $0.containerID = server })
        let remaining = try await node.cri.call(
            RuntimeRPC.listContainers, .with { $0.filter.state.state = .containerRunning }
        ).containers.map(\.metadata.name)
        #expect(remaining.contains("client") && !remaining.contains("server"))
    }
}
