import CRI
import CRIClient
import Foundation
import GRPC
import Support
import Testing

/// Requests that must be refused by name, and machines that never come up: nothing is left of any of them.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("bad"))
struct BadInputTests {
    @Test func badRequestsAreRefusedByNameAndLeaveNothing() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let cases: [(GRPCStatus.Code, String, @Sendable (inout CRIRunPodSandboxRequest) -> Void)] = [
            (.invalidArgument, "nosuch", { $0.runtimeHandler = "nosuch" }),
            (.invalidArgument, "metadata", { $0.config.clearMetadata() }),
            (.invalidArgument, "metadata.name", { $0.config.metadata.name = "../../etc" }),
            (.invalidArgument, "metadata.uid", { $0.config.metadata.uid = "a\u{0}b" }),
            (.invalidArgument, "metadata.namespace", { $0.config.metadata.namespace = String(repeating: "n", count: 10_000) }),
            (.invalidArgument, "network", { $0.config.linux.securityContext.namespaceOptions.network = .node }),
        ]
        for (code, text, change) in cases {
            var request = CRIRunPodSandboxRequest.with { $0.config = node.podConfig("refused") }
            change(&request)
            let status = await refusal { _ = try await node.cri.call(RuntimeRPC.runPodSandbox, request) }
            #expect(status?.code == code && status?.message.contains(text) == true, "\(text): \(String(describing: status))")
        }
        for id in ["../../etc/passwd", "a\u{0}", String(repeating: "f", count: 10_000)] {
            let status = await refusal { _ = try await node.podStatus(id) }
            #expect(status?.code == .invalidArgument)
            try await node.stopPod(id)
        }
        let unknown = await refusal { _ = try await node.podStatus("feed") }
        #expect(unknown?.code == .notFound)
        try await node.stopPod("feed")
        try await node.removePod("feed")
        #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest()).items.isEmpty)
        try await before.expectNothingAdded(node)
    }

    @Test func duplicatesAndStoppedPodsAreRefused() async throws {
        let node = try node()
        let pod = try await node.runPod("twice")
        let duplicate = await refusal { _ = try await node.runPod("twice") }
        #expect(duplicate?.code == .alreadyExists && duplicate?.message.contains(pod) == true)
        let container = try await node.createContainer(in: pod, "c", ["/bin/true"])
        let sameName = await refusal { _ = try await node.createContainer(in: pod, "c", ["/bin/true"]) }
        #expect(sameName?.code == .alreadyExists && sameName?.message.contains(container) == true)
        let notRunning = await refusal { _ = try await node.exec(container, ["/bin/true"]) }
        #expect(notRunning?.code == .failedPrecondition)
        try await node.stopPod(pod)
        let stopped = await refusal { _ = try await node.createContainer(in: pod, "late", ["/bin/true"]) }
        #expect(stopped?.code == .failedPrecondition && stopped?.message.contains("not ready") == true)
        let start = await refusal { try await node.start(container) }
        #expect(start?.code == .failedPrecondition)
        try await node.removePod(pod)
    }

    @Test func methodsThatAreNotBuiltSayTheirName() async throws {
        let node = try node()
        let checkpoint = await refusal { _ = try await node.cri.call(RuntimeRPC.checkpointContainer, .init()) }
        #expect(checkpoint?.code == .unimplemented && checkpoint?.message.contains("CheckpointContainer") == true)
        let old = try CRIConnection(endpoint: node.endpoint, version: .v1alpha2)
        #expect(try await old.call(RuntimeRPC.version, CRIVersionRequest()).runtimeName == "swiftlet")
        await old.close()
    }

    @Test func aKilledMachineMakesItsPodNotReady() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runPod("killed")
        let container = try await node.runContainer(in: pod, "victim", ["/bin/sleep", "600"])
        kill(try await node.machine(of: pod), SIGKILL)
        let exit = try await node.exit(of: container)
        #expect(exit.exitCode == 137)
        try await eventually("the pod is not ready") { try await node.podStatus(pod).status.state == .sandboxNotready }
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }
}

/// Daemons whose guest cannot come up.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized)
struct BrokenGuestTests {
    private func failure(_ options: Node.Options) async throws -> (GRPCStatus?, [String]) {
        let node = try Node("broken", options: options)
        try await node.start()
        let before = try await Footprint.now(node)
        var status: GRPCStatus?
        do {
            _ = try await node.runPod("doomed")
        } catch {
            status = error as? GRPCStatus
        }
        let left = try await Footprint.now(node).added(since: before)
        let pods = try await node.cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest()).items.map(\.id)
        await node.destroy()
        return (status, left.filter { !$0.contains("template-") } + pods)
    }

    private func file(_ name: String, _ contents: Data) throws -> String {
        let directory = try Node.Environment.current().scratch
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try contents.write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
        return "\(directory)/\(name)"
    }

    @Test func aCorruptInitramfsIsReportedWithTheConsoleAndLeavesNothing() async throws {
        let garbage = try file("corrupt.img", Data((0..<65536).map { UInt8(truncatingIfNeeded: $0 &* 31) }))
        let (status, left) = try await failure(Node.Options(initramfs: garbage))
        #expect(status?.message.contains("boot the guest") == true, "\(String(describing: status))")
        #expect(status?.message.contains("panic") == true, "\(String(describing: status))")
        #expect(left == [])
    }

    /// An initramfs whose init sleeps: the kernel runs, the agent never answers.
    @Test func anAgentThatNeverAnswersEndsAtTheBootTimeout() async throws {
        let silent = try await SilentGuest.initramfs(in: try Node.Environment.current().scratch)
        let (status, left) = try await failure(Node.Options(initramfs: silent, bootTimeout: 12))
        #expect(status?.code == .deadlineExceeded, "\(String(describing: status))")
        #expect(status?.message.contains("boot the guest") == true)
        #expect(left == [])
    }

    @Test func aNodeThatCannotRunPodsSaysWhy() async throws {
        let node = try Node("broken", options: Node.Options(kernel: "/nonexistent/vmlinuz", cni: "no list of plugins"))
        try await node.start()
        let conditions = try await node.cri.call(RuntimeRPC.status, .init()).status.conditions
        let found = Dictionary(uniqueKeysWithValues: conditions.map { ($0.type, $0) })
        #expect(found["PodsRunning"]?.status == true && found["StateWritable"]?.status == true)
        let runtime = try #require(found["RuntimeReady"])
        #expect(!runtime.status && runtime.reason == "RuntimeNotReady" && runtime.message.contains("/nonexistent/vmlinuz"), "\(runtime)")
        let network = try #require(found["NetworkReady"])
        #expect(!network.status && network.reason == "NetworkPluginNotReady" && network.message.contains("net.d"), "\(network)")
        await node.destroy()
    }

    @Test func aPluginThatFailsIsNamedAndLeavesNothing() async throws {
        let broken = """
            {"cniVersion": "1.0.0", "name": "x", "plugins": [
              {"type": "bridge", "bridge": "lo", "ipam": {"type": "host-local", "dataDir": "\(try Node.Environment.current().scratch)/broken/ipam",
               "ranges": [[{"subnet": "10.88.0.0/16"}]]}}]}
            """
        let (status, left) = try await failure(Node.Options(cni: broken))
        #expect(status?.message.contains("attach the network") == true, "\(String(describing: status))")
        #expect(status?.message.contains("bridge") == true)
        #expect(left == [])
    }
}
