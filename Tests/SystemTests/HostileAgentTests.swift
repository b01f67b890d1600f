import CRI
import Foundation
import GRPC
import Support
import Testing

/// Guests whose agents say what no agent would, beside one that is honest. `hostile-vsockd` stands in for them.
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(15)), .serialized,
    .node("agent", Node.Options(vsockBackend: "hostile-vsockd"), pod: honestPod))
struct HostileAgentTests {
    private static let modes = ["silence", "hangup", "garbage", "flood", "lengths", "ids", "drip", "absurd", "words"]

    private struct Hostile {
        var mode: String
        var pod: String
        var container: String
    }

    @Test func theDaemonAndOtherPodsOutliveEveryHostileAgent() async throws {
        let (node, honest) = (try node(), try sharedPod())
        let neighbour = try await node.runContainer(in: honest, "neighbour", ["/bin/sleep", "6000"])
        var all: [Hostile] = []
        for mode in Self.modes {
            let pod = try await node.runPod(mode)
            let script = "trap 'exit 3' TERM; while :; do echo tick; sleep 0.2; done"
            let container = try await node.runContainer(in: pod, mode, ["/bin/sh", "-c", script])
            all.append(Hostile(mode: mode, pod: pod, container: container))
        }
        for hostile in all { try setMode(hostile.mode, of: hostile.pod, node) }
        // Twice by a daemon that knew the agents when they were honest, and twice by one that has found them as they are.
        for round in 0..<2 {
            let daemon = try #require(await node.daemon)
            for _ in 0..<2 {
                try await ask(node, all, neighbour)
                #expect(await node.daemon == daemon, "round \(round): the daemon ended: \(node.tail(node.daemonLog))")
            }
            #expect(residentBytes(daemon) < 200 << 20)
            guard round == 0 else { break }
            await node.kill()
            try await node.launch()
            let pods = try await node.cri.call(RuntimeRPC.listPodSandbox, .init()).items
            #expect(Set(pods.map(\.id)) == Set(all.map(\.pod) + [honest]))
        }
        try expectPrintable(node)
        // No release needs the guest.
        try await withThrowingTaskGroup { group in
            for hostile in all {
                group.addTask {
                    try await node.stopPod(hostile.pod)
                    try await node.removePod(hostile.pod)
                }
            }
            for try await _ in group {}
        }
        #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, .init()).items.map(\.id) == [honest])
        #expect(try await node.shell(neighbour, "echo here") == "here\n")
    }

    private func setMode(_ mode: String, of pod: String, _ node: Node) throws {
        let sockets = (FileManager.default.enumerator(atPath: node.run)?.compactMap { $0 as? String } ?? []).filter {
            $0.hasSuffix("/vsock")
        }
        let socket = try #require(sockets.first { $0.contains(pod.prefix(13)) })
        try mode.write(toFile: "\(node.run)/\(socket).mode", atomically: true, encoding: .utf8)
    }

    /// Calls that ask the hostile agents something, which may fail, and the neighbour, which may not.
    private func ask(_ node: Node, _ all: [Hostile], _ neighbour: String) async throws {
        try await withThrowingTaskGroup { group in
            for hostile in all { group.addTask { await annoy(node, hostile) } }
            for _ in 0..<5 {
                #expect(try await node.shell(neighbour, "echo here") == "here\n")
                _ = try await node.cri.call(RuntimeRPC.listContainers, .init())
                _ = try await node.cri.call(RuntimeRPC.listPodSandbox, .init())
                _ = try await node.cri.call(RuntimeRPC.status, .init())
            }
            for try await _ in group {}
        }
    }

    private func annoy(_ node: Node, _ hostile: Hostile) async {
        guard let cri = try? await node.cri else { return }
        func call<Request, Response>(_ method: RPCDescriptor<Request, Response>, _ change: (inout Request) -> Void) async {
            var request = Request()
            change(&request)
            _ = try? await cri.call(method, request, timeout: .seconds(4))
        }
        await withTaskGroup { group in
            group.addTask {
                await call(RuntimeRPC.execSync) { ($0.containerID, $0.cmd, $0.timeout) = (hostile.container, ["/bin/echo", "x"], 2) }
            }
            group.addTask { await call(RuntimeRPC.podSandboxStats) { $0.podSandboxID = hostile.pod } }
            group.addTask { await call(RuntimeRPC.containerStats) { $0.containerID = hostile.container } }
            group.addTask { await call(RuntimeRPC.containerStatus) { ($0.containerID, $0.verbose) = (hostile.container, true) } }
            group.addTask { await call(RuntimeRPC.podSandboxStatus) { ($0.podSandboxID, $0.verbose) = (hostile.pod, true) } }
            group.addTask { await call(RuntimeRPC.reopenContainerLog) { $0.containerID = hostile.container } }
            group.addTask {
                await call(RuntimeRPC.updateContainerResources) {
                    ($0.containerID, $0.linux.memoryLimitInBytes) = (hostile.container, 64 << 20)
                }
            }
            group.addTask {
                await call(RuntimeRPC.createContainer) {
                    $0.podSandboxID = hostile.pod
                    ($0.config.metadata.name, $0.config.image.image) = ("other-\(UUID().uuidString)", Node.image)
                }
            }
        }
        await call(RuntimeRPC.stopContainer) { ($0.containerID, $0.timeout) = (hostile.container, 1) }
    }

    /// What agents say stands in errors and the log.
    private func expectPrintable(_ node: Node) throws {
        let log = try String(contentsOfFile: node.daemonLog, encoding: .utf8)
        for scalar in ["\u{1B}", "\u{9B}", "\u{202E}", "\r"] { #expect(!log.contains(scalar)) }
        #expect(!log.split(separator: "\n").contains { $0.contains("forged") && $0.hasPrefix("2026-01-01") })
    }

    private func residentBytes(_ pid: Int32) -> Int {
        let status = (try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
        return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? .max / 1024) * 1024
    }
}

@Sendable private func honestPod(_ node: Node) async throws -> String { try await node.runPod("honest") }
