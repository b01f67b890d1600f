import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

private let hostConfiguration = """
    [host]
    [[host.handlers]]
    name = "gvisor"
    runtime = "runsc"
    options = ["--platform=ptrace", "--network=host"]
    namespaces = ["test"]
    """

/// Pods on the node by gVisor's runtime: a kernel of its own for each container, without a machine.
@Suite(
    .enabled(if: systemTestsEnabled && access("/usr/bin/runsc", X_OK) == 0), .timeLimit(.minutes(10)), .serialized,
    .node("gvisor", Node.Options(host: hostConfiguration)))
struct HostGVisorTests {
    private func run(
        in pod: String, _ name: String, _ command: [String], _ change: @Sendable (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        let node = try node()
        let id = try await node.createContainer(in: pod, name, command) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            change(&$0)
        }
        try await node.start(id)
        return id
    }

    @Test func aPodRunsByGVisorLogsAnswersAndLeavesNothing() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("sandboxed", handler: "gvisor")
        let short = try await run(in: pod, "gvisor-short", ["/bin/sh", "-c", "echo out; echo err >&2; busybox dmesg; exit 7"])
        let ended = try await node.exit(of: short)
        #expect(ended.exitCode == 7 && ended.reason == "Error", "\(ended)")
        let log = try node.log("gvisor-short")
        #expect(log.contains("stdout F out") && log.contains("stderr F err") && log.contains { $0.contains("Starting gVisor") }, "\(log)")

        let long = try await run(in: pod, "gvisor-long", ["/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"]) {
            $0.linux.resources.memoryLimitInBytes = 256 << 20
            $0.linux.securityContext.seccomp.profileType = .runtimeDefault
        }
        let answer = try await node.exec(long, ["/bin/sh", "-c", "busybox dmesg | busybox grep -c gVisor; echo no >&2; exit 4"])
        #expect(String(decoding: answer.stdout, as: UTF8.self) == "1\n" && String(decoding: answer.stderr, as: UTF8.self) == "no\n")
        #expect(answer.exitCode == 4)
        let address = try await node.podStatus(pod).status.network.ip
        #expect(try await node.shell(long, "busybox ip -o addr").contains(address), "the pod's network is its own")
        let session = try await Spawn(
            node.environment.build + "/swiftlet",
            ["--endpoint", node.endpoint, "exec", long, "/bin/sh", "-c", "echo out; echo err >&2; exit 3"], deadline: .seconds(60)
        ).run()
        #expect(session.status == 3 && session.outputText == "out\n" && session.errorText.contains("err\n"), "\(session)")
        let stats = try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = long }).stats
        #expect(stats.cpu.usageCoreNanoSeconds.value > 0 && stats.memory.workingSetBytes.value > 0)

        await node.kill()
        try await node.launch()
        #expect(try await node.shell(long, "echo here") == "here\n")
        try await node.stop(long, timeout: 20)
        #expect(try await node.status(of: long).exitCode == 3)
        let deaf = try await run(in: pod, "gvisor-deaf", ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"])
        try await node.waitForLog("gvisor-deaf")
        try await node.stop(deaf, timeout: 1)
        #expect(try await node.status(of: deaf).exitCode == 137)
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
        #expect(try await Spawn("/usr/bin/pgrep", ["-f", "runsc.*\(long)"]).run().status == 1, "something is left")
    }
}
