import CRI
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

/// What a kubelet does to pods at awkward moments, and what it may rely on then.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("kubelet"))
struct KubeletTests {
    /// A kubelet that takes a pod for an orphan kills all processes of its control group, and stops the pod at the same moment.
    @Test func aPodWhoseMachineIsKilledWhileItIsStoppedLeavesNothing() async throws {
        let node = try node()
        let volumes = try Volumes(node)
        let before = try await Footprint.now(node)
        for round in 0..<2 {
            let pod = try await node.runPod("orphan-\(round)")
            let mounted = try await node.runContainer(in: pod, "mounted", ["/bin/sleep", "600"]) {
                $0.mounts = [.host(volumes.path("data"), "/data")]
            }
            let deaf = try await node.runContainer(in: pod, "deaf", ["/bin/sh", "-c", "trap '' TERM; while true; do sleep 1; done"])
            let created = try await node.createContainer(in: pod, "created", ["/bin/true"])
            let machine = try await node.machine(of: pod)
            let servers = Volumes.servers(node)
            async let first: Void = node.stop(deaf, timeout: 60)
            if round == 0 { try await Task.sleep(for: .milliseconds(300)) }
            for pid in [machine] + servers { kill(pid, SIGKILL) }
            async let second: Void = node.stop(mounted, timeout: 60)
            async let third: Void = node.removeContainer(created)
            if round == 0 {
                _ = try await (first, second, third)
                #expect(try await node.status(of: deaf).exitCode == 137)
            }
            async let podStop: Void = node.stopPod(pod)
            _ = try await (first, second, third, podStop)
            try await node.removePod(pod)
        }
        try await before.expectNothingAdded(node)
        try volumes.remove()
    }

    @Test func onlyTheEndOfTheFirstProcessForMemoryIsOOMKilled() async throws {
        let node = try node()
        let pod = try await node.runPod("memory")
        func run(_ name: String, _ script: String) async throws -> String {
            try await node.runContainer(in: pod, name, ["/bin/sh", "-c", script]) { $0.linux.resources.memoryLimitInBytes = 32 << 20 }
        }
        let hog = "dd if=/dev/zero of=/dev/null bs=64M count=1"
        let child = try await run("child", "\(hog); echo \"child $?\"; exit 3")
        let failed = try await node.exit(of: child)
        #expect(failed.exitCode == 3 && failed.reason == "Error", "\(failed.reason)")
        #expect(try node.log("child").contains("stdout F child 137"))
        // Killed later, for another reason.
        let stopped = try await run("stopped", "\(hog); echo over; sleep 600")
        try await node.waitForLog("stopped", line: "over")
        try await node.stop(stopped, timeout: 0)
        let killed = try await node.status(of: stopped)
        #expect(killed.exitCode == 137 && killed.reason == "Error", "\(killed.reason)")
        let own = try await node.exit(of: try await run("own", "exec \(hog)"))
        #expect(own.exitCode == 137 && own.reason == "OOMKilled", "\(own.reason)")
        try await checkFrozen(node, pod)
        try await checkLastLine(node, pod)
        try await node.removePod(pod)
    }

    private func checkFrozen(_ node: Node, _ pod: String) async throws {
        let sleeper = try await node.runContainer(in: pod, "sleeper", ["/bin/sleep", "600"])
        let machine = try await node.machine(of: pod)
        kill(machine, SIGSTOP)
        let begin = ContinuousClock.now
        let refused = await refusal { _ = try await node.exec(sleeper, ["/bin/sleep", "983"], timeout: 2) }
        let took = ContinuousClock.now - begin
        kill(machine, SIGCONT)
        #expect(refused?.code == .deadlineExceeded && refused?.message.contains("guest") == true, "\(String(describing: refused))")
        #expect(took < .seconds(10), "\(took)")
        // What the guest reads when it goes on is not run for ever.
        let script =
            "sleep 1; for i in $(seq 50); do ps -o args | grep -q '[s]leep 983' || break; sleep 0.1; done; ps -o args | grep -c '[s]leep 983'"
        #expect(try await node.shell(sleeper, script) == "0\n")
    }

    private func checkLastLine(_ node: Node, _ pod: String) async throws {
        let container = try await node.runContainer(in: pod, "unfinished", ["/bin/sh", "-c", "echo whole; printf 'no end'"])
        _ = try await node.exit(of: container)
        #expect(try node.log("unfinished") == ["stdout F whole", "stdout P no end", "stdout F "])
    }

    /// The group of a pod, as the kubelet makes it.
    private struct PodGroup {
        let parent = "/swiftlet-kubelet-\(getpid())"
        let cgroups: Cgroups

        init() throws {
            cgroups = try Cgroups.detect()
            for path in directories { mkdir(path, 0o755) }
        }

        private var directories: [String] { Set([path("memory"), path("cpu")]).sorted() }

        func path(_ controller: String, _ below: String = "") -> String {
            let root = cgroups.hierarchies[cgroups.layout == .v2 ? "unified" : controller] ?? ""
            return root + parent + below
        }

        func remove() { for path in directories { rmdir(path) } }

        private var memoryFile: String { cgroups.layout == .v2 ? "memory.max" : "memory.limit_in_bytes" }
        func limit(memory bytes: Int) throws { try KernelFile.write("\(bytes)", to: "\(path("memory"))/\(memoryFile)") }
        var memoryInUse: Int {
            let file = cgroups.layout == .v2 ? "memory.current" : "memory.usage_in_bytes"
            return KernelFile.text("\(path("memory"))/\(file)").flatMap { Int($0.dropLast()) } ?? 0
        }
    }

    private func runLimited(_ node: Node, _ name: String, _ group: PodGroup) async throws -> String {
        try await node.runPod(name) {
            $0.linux.cgroupParent = group.parent
            $0.linux.resources = .with {
                $0.memoryLimitInBytes = 256 << 20
                ($0.cpuQuota, $0.cpuPeriod) = (100_000, 100_000)
            }
            $0.linux.overhead = .with { ($0.cpuQuota, $0.cpuPeriod) = (50_000, 100_000) }
        }
    }

    /// Of a RuntimeClass without an overhead of memory.
    @Test func aMachineFitsItsPodsControlGroupAndSaysWhatItWasKilledFor() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let group = try PodGroup()
        defer { group.remove() }
        try group.limit(memory: 200 << 20)
        let refused = await refusal { _ = try await runLimited(node, "tight", group) }
        #expect(refused?.code == .failedPrecondition, "\(String(describing: refused))")
        for part in [group.parent, "\(200 << 20) bytes", "overhead.podFixed.memory"] {
            #expect(refused?.message.contains(part) == true, "\(part): \(refused?.message ?? "")")
        }
        try group.limit(memory: 320 << 20)
        let pod = try await runLimited(node, "fitted", group)
        let container = try await node.runContainer(in: pod, "hog", ["/bin/sleep", "600"])
        let total = try await node.shell(container, "grep MemTotal /proc/meminfo | tr -dc 0-9")
        #expect((Int(total) ?? 0) >> 10 < 224, "\(total) KiB of a machine of 224 MiB")
        try await checkQuota(node, pod, group)
        // The node takes away what it had promised.
        try group.limit(memory: group.memoryInUse + (8 << 20))
        async let exec: Void = {
            _ = try? await node.exec(container, ["/bin/dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=120"], timeout: 60)
        }()
        let exit = try await node.exit(of: container)
        #expect(exit.exitCode == 137 && exit.reason == "OOMKilled" && exit.message.contains(group.parent), "\(exit)")
        await exec
        let info = try await node.podStatus(pod, verbose: true).info["info"] ?? ""
        #expect(info.contains("lack of memory") && info.contains("overhead.podFixed.memory"), "\(info)")
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    /// A kubelet tells of new limits before it raises its own group's.
    private func checkQuota(_ node: Node, _ pod: String, _ group: PodGroup) async throws {
        guard group.cgroups.layout != .v2 else { return }
        let (above, own) = (group.path("cpu", "/cpu.cfs_quota_us"), group.path("cpu", "/\(pod)/cpu.cfs_quota_us"))
        try KernelFile.write("150000", to: above)
        func raise(_ quota: Int64) async throws {
            _ = try await node.cri.call(
                RuntimeRPC.updatePodSandboxResources,
                .with {
                    $0.podSandboxID = pod
                    ($0.resources.cpuQuota, $0.resources.cpuPeriod) = (quota, 100_000)
                })
        }
        try await raise(90_000)
        #expect(KernelFile.text(own) == "140000\n")
        try await raise(200_000)
        #expect(KernelFile.text(own) == "-1\n")
        try KernelFile.write("250000", to: above)
        try await eventually("the quota is set", within: .seconds(20)) { KernelFile.text(own) == "250000\n" }
    }
}
