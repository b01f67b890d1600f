import CRI
import Foundation
import GRPC
import Linux
import Testing

/// Limits of containers and pods, in the guest and on the node. One pod serves most of it.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("limits"))
struct ResourceTests {
    private func update(_ node: Node, _ container: String, _ change: (inout CRILinuxContainerResources) -> Void) async throws {
        let resources = CRILinuxContainerResources.with(change)
        _ = try await node.cri.call(
            RuntimeRPC.updateContainerResources,
            .with {
                $0.containerID = container
                $0.linux = resources
            })
    }

    /// Interface files of the container's own cgroup.
    private func files(_ node: Node, _ container: String, _ names: String...) async throws -> [String] {
        let text = try await node.shell(container, "cd /sys/fs/cgroup && cat \(names.joined(separator: " "))")
        return text.split(separator: "\n").map(String.init)
    }

    @Test func limitsHoldAndChangeAndOutliveTheDaemon() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let parent = "/swiftlet-test-\(getpid())/burstable/podlimits"
        let pod = try await node.runPod("limits") {
            $0.linux.cgroupParent = parent
            $0.linux.sysctls = [
                "net.ipv4.ip_unprivileged_port_start": "80", "vm.max_map_count": "300000", "kernel.shm_rmid_forced": "1",
            ]
            $0.linux.resources = .with {
                $0.memoryLimitInBytes = 192 << 20
                $0.cpuQuota = 100_000
                $0.cpuPeriod = 100_000
            }
            $0.linux.overhead = .with { $0.memoryLimitInBytes = 256 << 20 }
        }
        let container = try await node.runContainer(in: pod, "web", ["/bin/sleep", "6000"]) {
            $0.linux.resources = .with {
                $0.cpuShares = 512
                $0.cpuQuota = 50_000
                $0.cpuPeriod = 100_000
                $0.memoryLimitInBytes = 64 << 20
                $0.memorySwapLimitInBytes = 64 << 20
                $0.cpusetCpus = "0-3"
                $0.oomScoreAdj = 500
                $0.unified = ["pids.max": "40", "memory.oom.group": "1"]
            }
        }
        try await checkLimits(node, container)
        #expect(
            try await node.shell(
                container, "cd /proc/sys && cat net/ipv4/ip_unprivileged_port_start vm/max_map_count kernel/shm_rmid_forced")
                == "80\n300000\n1\n")
        try await checkUpdates(node, pod, container)
        try await checkRefusedUpdates(node, container)
        try await checkRestart(node, container)
        try await checkGroups(node, pod, parent)
        try await checkGrowth(node, pod, container, parent)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    @Test func aParameterThatTheKernelDoesNotHaveIsNamedAndLeavesNothing() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let refused = await refusal { _ = try await node.runPod("sysctl") { $0.linux.sysctls = ["net.core.nosuch": "1"] } }
        #expect(refused?.message.contains("sysctl net.core.nosuch") == true, "\(String(describing: refused))")
        let slice = await refusal { _ = try await node.runPod("slice") { $0.linux.cgroupParent = "a--b.slice" } }
        #expect(slice?.code == .invalidArgument && slice?.message.contains("slice") == true, "\(String(describing: slice))")
        try await before.expectNothingAdded(node)
    }

    private func checkLimits(_ node: Node, _ container: String) async throws {
        let names = ["cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max", "memory.oom.group"]
        let values = try await node.shell(container, "cd /sys/fs/cgroup && cat \(names.joined(separator: " "))")
        #expect(values == "20\n50000 100000\n67108864\n0\n40\n1\n")
        #expect(try await node.shell(container, "cat /proc/self/oom_score_adj") == "500\n")
        let resources = try await node.status(of: container).resources.linux
        #expect(resources.cpuShares == 512 && resources.cpuQuota == 50_000 && resources.cpuPeriod == 100_000)
        #expect(resources.memoryLimitInBytes == 64 << 20 && resources.memorySwapLimitInBytes == 64 << 20)
        #expect(resources.cpusetCpus == "0-3" && resources.oomScoreAdj == 500)
        #expect(resources.unified == ["pids.max": "40", "memory.oom.group": "1"])
    }

    private func checkUpdates(_ node: Node, _ pod: String, _ container: String) async throws {
        try await update(node, container) {
            $0.cpuQuota = 20_000
            $0.memoryLimitInBytes = 48 << 20
            $0.memorySwapLimitInBytes = 48 << 20
            $0.unified = ["pids.max": "60"]
        }
        #expect(try await files(node, container, "cpu.max", "memory.max", "pids.max") == ["20000 100000", "50331648", "60"])
        #expect(try await files(node, container, "cpu.weight") == ["20"], "what the change did not say stays")
        let created = try await node.createContainer(in: pod, "later", ["/bin/cat", "/sys/fs/cgroup/memory.max"]) {
            $0.linux.resources.memoryLimitInBytes = 16 << 20
        }
        try await update(node, created) { $0.memoryLimitInBytes = 32 << 20 }
        #expect(try await node.status(of: created).resources.linux.memoryLimitInBytes == 32 << 20)
        try await node.start(created)
        #expect(try await node.exit(of: created).exitCode == 0)
        #expect(try node.log("later") == ["stdout F 33554432"])
        let ended = await refusal { try await update(node, created) { $0.cpuQuota = 10_000 } }
        #expect(ended?.code == .failedPrecondition && ended?.message.contains("exited") == true, "\(String(describing: ended))")
    }

    private func checkRefusedUpdates(_ node: Node, _ container: String) async throws {
        let status = try await node.status(of: container).resources
        let cases: [(GRPCStatus.Code, String, @Sendable (inout CRILinuxContainerResources) -> Void)] = [
            (.invalidArgument, "linux.cpu_quota", { $0.cpuQuota = 1 }),
            (.invalidArgument, "linux.cpu_period", { $0.cpuPeriod = 5 }),
            (.invalidArgument, "linux.memory_limit_in_bytes", { $0.memoryLimitInBytes = -1 }),
            (.invalidArgument, "linux.memory_swap_limit_in_bytes", { $0.memoryLimitInBytes = 1 << 30 }),
            (.unimplemented, "linux.hugepage_limits", { $0.hugepageLimits = [.with { ($0.pageSize, $0.limit) = ("2MB", 4 << 20) }] }),
            (.failedPrecondition, "nosuch.limit", { ($0.cpuQuota, $0.unified) = (30_000, ["nosuch.limit": "1"]) }),
            (.invalidArgument, "memory.high", { ($0.cpuQuota, $0.unified) = (30_000, ["memory.high": "plenty"]) }),
        ]
        for (code, text, change) in cases {
            let refused = await refusal { try await update(node, container, change) }
            #expect(refused?.code == code && refused?.message.contains(text) == true, "\(text): \(String(describing: refused))")
        }
        // All or nothing: the quota of the last two is not there.
        #expect(try await files(node, container, "cpu.max", "memory.max") == ["20000 100000", "50331648"])
        #expect(try await node.status(of: container).resources == status)
        // 24 MiB of a tmpfs cannot be given back.
        #expect(try await node.shell(container, "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null; echo $?") == "0\n")
        let tight = await refusal {
            try await update(node, container) { ($0.memoryLimitInBytes, $0.memorySwapLimitInBytes) = (16 << 20, 16 << 20) }
        }
        #expect(tight?.code == .failedPrecondition && tight?.message.contains("in use") == true, "\(String(describing: tight))")
        #expect(try await node.shell(container, "rm /dev/shm/held; cat /sys/fs/cgroup/memory.max") == "50331648\n")
        let unknown = await refusal { try await update(node, "feedfeed") { $0.cpuQuota = 10_000 } }
        #expect(unknown?.code == .notFound)
    }

    private func checkRestart(_ node: Node, _ container: String) async throws {
        let status = try await node.status(of: container).resources
        await node.kill()
        try await node.launch()
        #expect(try await node.status(of: container).resources == status)
        try await update(node, container) { $0.cpuShares = 1024 }
        #expect(try await files(node, container, "cpu.weight", "cpu.max") == ["39", "20000 100000"])
    }

    // MARK: The node

    private func processes(_ node: Node, _ pod: String) async throws -> [Int32] {
        let info = try await node.podStatus(pod, verbose: true).info["info"] ?? ""
        let short = String(pod.prefix(13))
        let own = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            let command = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline").map { String(decoding: $0, as: UTF8.self) } ?? ""
            return command.contains(short) && (command.contains("/qemu-system-") || command.contains("swiftlet-vsockd"))
        }
        #expect(own.count == 2, "\(own) of \(info)")
        return own
    }

    private func checkGroups(_ node: Node, _ pod: String, _ parent: String) async throws {
        let cgroups = try Cgroups.detect()
        for pid in try await processes(node, pod) {
            let lines = try String(contentsOfFile: "/proc/\(pid)/cgroup", encoding: .utf8).split(separator: "\n")
            for line in lines where !line.contains("name=systemd") && !line.contains(":devices:") {
                #expect(line.hasSuffix(":\(parent)/\(pod)"), "process \(pid): \(line)")
            }
        }
        let limit =
            cgroups.layout == .v2
            ? "/sys/fs/cgroup\(parent)/\(pod)/memory.max" : "/sys/fs/cgroup/memory\(parent)/\(pod)/memory.limit_in_bytes"
        #expect(try String(contentsOfFile: limit, encoding: .utf8) == "\(448 << 20)\n")
    }

    // MARK: Growth

    private func machine(_ node: Node, _ container: String) async throws -> (mebibytes: Int, cpus: Int) {
        let text = try await node.shell(container, "grep MemTotal /proc/meminfo | tr -dc 0-9; echo; nproc")
        let numbers = text.split(separator: "\n").compactMap { Int($0) }
        #expect(numbers.count == 2, "\(text)")
        return (numbers[0] >> 10, numbers[1])
    }

    private func checkGrowth(_ node: Node, _ pod: String, _ container: String, _ parent: String) async throws {
        let small = try await machine(node, container)
        #expect(small.mebibytes < 400 && small.cpus == 1)
        // A second container that does not fit.
        let large = try await node.runContainer(in: pod, "large", ["/bin/sleep", "6000"]) {
            $0.linux.resources = .with {
                $0.memoryLimitInBytes = 448 << 20
                $0.cpuQuota = 150_000
                $0.cpuPeriod = 100_000
            }
        }
        let grown = try await machine(node, container)
        #expect(grown.mebibytes >= 480, "\(grown)")
        // The tests' machines are emulated: these keep the vCPUs that they were started with.
        #expect(grown.cpus == 1)
        // It is really there: more than the machine had at first.
        let held = try await node.exec(large, ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"])
        #expect(held.exitCode == 0, "\(String(decoding: held.stderr, as: UTF8.self))")
        try await update(node, container) { ($0.memoryLimitInBytes, $0.memorySwapLimitInBytes) = (512 << 20, -1) }
        let more = try await machine(node, container)
        #expect(more.mebibytes >= 960, "\(more)")
        _ = try await node.cri.call(
            RuntimeRPC.updatePodSandboxResources,
            .with {
                $0.podSandboxID = pod
                $0.resources.memoryLimitInBytes = 1200 << 20
            })
        let most = try await machine(node, container)
        #expect(most.mebibytes >= 1200, "\(most)")
        // All threads and the new limit are in the pod's group.
        try await checkGroupsAfterGrowth(node, pod, parent)
    }

    private func checkGroupsAfterGrowth(_ node: Node, _ pod: String, _ parent: String) async throws {
        for pid in try await processes(node, pod) {
            for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task") {
                let text = (try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/cgroup", encoding: .utf8)) ?? ""
                let stray = text.split(separator: "\n").filter {
                    !$0.contains("name=systemd") && !$0.contains(":devices:") && !$0.hasSuffix(":\(parent)/\(pod)")
                }
                #expect(stray.isEmpty, "thread \(thread) of \(pid): \(stray)")
            }
        }
    }
}
