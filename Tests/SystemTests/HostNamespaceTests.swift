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
    node_pods = "host"
    [[host.handlers]]
    name = "host"
    runtime = "runc"
    namespaces = ["test"]
    """

/// Pods on the node whose containers share a PID namespace of the pod's own (`shareProcessNamespace`).
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized,
    .node("hostns", Node.Options(host: hostConfiguration)))
struct HostNamespaceTests {
    /// CRI's default: the PID namespace is the pod's.
    private func runPod(_ name: String, _ change: @Sendable (inout CRIPodSandboxConfig) -> Void = { _ in }) async throws -> String {
        try await node().runHostPod(name) {
            $0.linux.securityContext.namespaceOptions.pid = .pod
            change(&$0)
        }
    }

    private func run(
        in pod: String, _ name: String, _ command: [String], _ change: @Sendable (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        let node = try node()
        let id = try await node.createContainer(in: pod, name, command) {
            $0.linux.securityContext.namespaceOptions.pid = .pod
            change(&$0)
        }
        try await node.start(id)
        return id
    }

    /// The first process of the pod's PID namespace.
    private func first(of pod: String) throws -> ProcessIdentity {
        struct Document: Decodable { var process: ProcessIdentity }
        let file = URL(fileURLWithPath: "\(try node().run)/host/\(pod.prefix(13))/pause.json")
        return try JSONDecoder().decode(Document.self, from: Data(contentsOf: file)).process
    }

    private func namespace(_ container: String) async throws -> String {
        try await node().shell(container, "readlink /proc/self/ns/pid")
    }

    private func remove(_ pod: String, _ first: ProcessIdentity, _ before: Footprint) async throws {
        let node = try node()
        try await node.stopPod(pod)
        #expect(!first.isAlive, "StopPodSandbox ends the namespace")
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    @Test func containersShareThePodsProcessesAndOutliveEachOther() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let group = "/swiftlet-test-\(getpid())/shared"
        let pod = try await runPod("shared") { $0.linux.cgroupParent = group }
        let first = try first(of: pod)
        #expect(try await node.podStatus(pod).status.linux.namespaces.options.pid == .pod)
        let groups = try #require(KernelFile.text("/proc/\(first.pid)/cgroup"))
        #expect(groups.contains(":\(group)/pause-\(pod.prefix(13))\n"), "\(groups)")

        let one = try await run(in: pod, "shared-one", ["/bin/sleep", "811"])
        let two = try await run(in: pod, "shared-two", ["/bin/sleep", "812"])
        let seen = try await node.shell(one, "cat /proc/1/comm; busybox ps | grep -c 'sleep 81[12]'")
        #expect(seen == "swiftlet-pause\n2\n", "\(seen)")
        #expect(try await namespace(one) == namespace(two))
        // A session's process is among them, as ExecSync's is.
        let session = try await Spawn(
            node.environment.build + "/swiftlet",
            ["--endpoint", node.endpoint, "exec", two, "/bin/sh", "-c", "readlink /proc/self/ns/pid; kill -0 1 2>&1; cat /proc/1/comm"],
            deadline: .seconds(60)
        ).run()
        #expect(try await session.outputText.hasPrefix(namespace(one)) && session.outputText.hasSuffix("swiftlet-pause\n"), "\(session)")

        // Who loses its parent is taken note of when it ends.
        _ = try await node.shell(one, "(busybox setsid sh -c 'sleep 0.2; exit 3' </dev/null >/dev/null 2>&1 &)")
        try await eventually("nothing is left of an orphan") {
            try await node.shell(two, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; busybox ps | grep -c '[s]leep 0.2'") == "0\n"
        }

        // Neither a signal from inside nor a container's end is the namespace's.
        _ = try await node.shell(one, "kill -KILL 1; kill -TERM 1; true")
        try await node.stop(one, timeout: 1)
        #expect(try await node.shell(two, "busybox ps | grep -c '[s]leep 81[12]'") == "1\n")
        let own = try await run(in: pod, "shared-own", ["/bin/sleep", "813"]) { $0.linux.securityContext.namespaceOptions.pid = .container }
        #expect(try await namespace(own) != namespace(two))

        // The next daemon finds it, and containers that it makes join it.
        await node.kill()
        try await node.launch()
        #expect(try await node.podStatus(pod).status.state == .sandboxReady && first.isAlive)
        let three = try await run(in: pod, "shared-three", ["/bin/sh", "-c", "busybox ps | grep -c '[s]leep 812'"])
        #expect(try await node.exit(of: three).exitCode == 0)
        #expect(try node.log("shared-three") == ["stdout F 1"])
        try await node.stopPod(pod)
        #expect(!first.isAlive)
        try await node.removePod(pod)
        // The kubelet's groups stay until it takes them away, which fails where something is left in them.
        for hierarchy in try FileManager.default.contentsOfDirectory(atPath: "/sys/fs/cgroup") {
            let path = "/sys/fs/cgroup/\(hierarchy)\(group)"
            #expect(rmdir(path) == 0 || errno == ENOENT || errno == ENOTDIR, "\(path)")
            rmdir("/sys/fs/cgroup/\(hierarchy)/swiftlet-test-\(getpid())")
        }
        try await before.expectNothingAdded(node)
    }

    /// By /proc/1, with what debuggers are given.
    @Test func whoMayTraceProcessesFindsNothingOfTheNodeInTheFirst() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await runPod("tracing")
        let first = try first(of: pod)
        let container = try await run(in: pod, "tracing", ["/bin/sleep", "600"]) {
            $0.linux.securityContext.capabilities.addCapabilities = ["SYS_PTRACE"]
        }
        let files = try await node.shell(
            container, "ls -A /proc/1/root/ && ls -A /proc/1/cwd/ && ls -A /proc/1/fd && wc -l </proc/1/mounts")
        #expect(files == "1\n", "\(files)")
        let network = try await node.shell(container, "cmp /proc/1/net/dev /proc/self/net/dev >/dev/null; cat /proc/1/net/fib_trie")
        #expect(try await network.contains(node.podStatus(pod).status.network.ip), "\(network)")
        for kind in ["net", "uts", "ipc"] {
            let names = try await node.shell(container, "readlink /proc/1/ns/\(kind); readlink /proc/self/ns/\(kind)").split(
                separator: "\n")
            #expect(names.count == 2 && names[0] == names[1], "\(kind): \(names)")
        }
        let written = try await node.exec(container, ["/bin/sh", "-c", "echo >> /proc/1/exe"])
        #expect(written.exitCode != 0)
        // One that may not: as an id of the same number is none.
        let plain = try await run(in: pod, "plain", ["/bin/sleep", "600"]) { $0.linux.securityContext.runAsUser.value = 65534 }
        #expect(try await node.exec(plain, ["/bin/ls", "/proc/1/root/"]).exitCode != 0)
        try await remove(pod, first, before)
    }

    @Test func aPodWhoseFirstProcessEndsIsLostAndLeavesNothing() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await runPod("losing")
        let first = try first(of: pod)
        let container = try await run(in: pod, "losing", ["/bin/sleep", "814"])
        first.kill()
        try await eventually("the pod is not ready") { try await node.podStatus(pod).status.state == .sandboxNotready }
        #expect(try await node.status(of: container).state == .containerExited)
        try await remove(pod, first, before)

        let other = try await runPod("losing-later")
        let second = try self.first(of: other)
        _ = try await run(in: other, "losing-later", ["/bin/sleep", "815"])
        await node.kill()
        second.kill()
        try await node.launch()
        try await eventually("the pod is not ready") { try await node.podStatus(other).status.state == .sandboxNotready }
        try await remove(other, second, before)
    }
}
