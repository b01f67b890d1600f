import Errors
import Machines
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

@Suite struct LinuxResourcesTests {
    private func resources(_ change: (inout LinuxResources) -> Void) -> LinuxResources {
        var resources = LinuxResources()
        change(&resources)
        return resources
    }

    private func refuses(_ field: String, _ code: SwiftletError.Code = .invalidArgument, _ change: (inout LinuxResources) -> Void) {
        let error = #expect(throws: SwiftletError.self) { try resources(change).check("linux") }
        #expect(error?.code == code, "\(field)")
        #expect(error?.message.contains("linux.\(field)") == true, "\(error?.message ?? "")")
        #expect((error?.message.utf8.count ?? 0) < 500)
    }

    @Test func valuesOutOfRangeAreNamed() {
        for value: Int64 in [-1, 1, 999, 1_000_001, .max, .min] { refuses("cpu_period") { $0.cpuPeriod = value } }
        for value: Int64 in [-2, 1, 999, 1 << 44, .max, .min] { refuses("cpu_quota") { $0.cpuQuota = value } }
        for value: Int64 in [-5, 1, 262_145, .min] { refuses("cpu_shares") { $0.cpuShares = value } }
        for value: Int64 in [-1, 1, (1 << 20) - 1, .max] { refuses("memory_limit_in_bytes") { $0.memoryLimit = value } }
        for value: Int64 in [1001, -1001, .max, .min] { refuses("oom_score_adj") { $0.oomScoreAdjustment = value } }
        for list in ["a", "1-", "-1", "3-1", "0,,1", "0-5000", "1 2", "0\n", String(repeating: "1,", count: 5000)] {
            refuses("cpuset_cpus") { $0.cpusetCPUs = list }
            refuses("cpuset_mems") { $0.cpusetMemoryNodes = list }
        }
        for name in [
            "", "../memory.max", "memory", "cgroup.kill", "cgroup.procs", "memory.max/x", ".max", String(repeating: "a.", count: 99),
        ] {
            refuses("unified") { $0.unified = [name: "1"] }
        }
        refuses("unified") { $0.unified = ["memory.high": "1\n2"] }
        for size in ["", "64MB", "64Mi", "-1", "+1", "1.5G", "08", "0x", "16E", "18446744073709551616", "maximum", "64 M", "64\u{600}M"] {
            refuses("unified \"memory.max\"") { $0.unified = ["memory.max": size] }
        }
        for bandwidth in ["", "a", "999", "max 1", "1000 100000 1", "-1", "1000 0"] {
            refuses("unified \"cpu.max\"") { $0.unified = ["cpu.max": bandwidth] }
        }
        for weight in ["", "0", "10001", "idle"] { refuses("unified \"cpu.weight\"") { $0.unified = ["cpu.weight": weight] } }
    }

    /// What the kernel takes in a cgroup's file sizes the machine as it limits the container.
    @Test func unifiedValuesMeanWhatTheyMeanToTheKernel() throws {
        let sizes: [(String, UInt64?)] = [
            ("64M", 64 << 20), ("64m", 64 << 20), ("67108864", 64 << 20), ("0x4000000", 64 << 20), ("0400000000", 64 << 20),
            ("2G", 2 << 30),
            ("1T", 1 << 40), ("512k", 512 << 10), ("0", 0), ("0x1e", 0x1e), (" 64M ", 64 << 20), ("max", nil),
        ]
        for (text, bytes) in sizes {
            let limited = resources { ($0.memoryLimit, $0.unified) = (1 << 30, ["memory.max": text]) }
            try limited.check("linux")
            #expect(limited.memoryCeiling == bytes, "\(text)")
        }
        func milliCPUs(_ unified: [String: String]) throws -> UInt64 {
            let limited = resources { ($0.cpuQuota, $0.cpuShares, $0.unified) = (300_000, 1024, unified) }
            try limited.check("linux")
            return limited.milliCPUs
        }
        #expect(try milliCPUs([:]) == 3000)
        #expect(try milliCPUs(["cpu.max": "50000 100000"]) == 500)
        #expect(try milliCPUs(["cpu.max": "250000"]) == 2500)
        #expect(try milliCPUs(["cpu.max": "max"]) == 1000, "then the weight counts")
        #expect(try milliCPUs(["cpu.max": "max", "cpu.weight": "79"]) == 1999, "79 is what 2048 shares become")
        for weight: Int64 in [1, 2, 39, 100, 10_000] {
            #expect(LinuxResources.weight(ofShares: LinuxResources.shares(ofWeight: weight)) == weight)
        }
    }

    @Test func swapCountsMemoryToo() {
        refuses("memory_swap_limit_in_bytes") { $0.memorySwapLimit = 1 << 30 }
        refuses("memory_swap_limit_in_bytes") { ($0.memoryLimit, $0.memorySwapLimit) = (2 << 30, 1 << 30) }
        refuses("memory_swap_limit_in_bytes") { ($0.memoryLimit, $0.memorySwapLimit) = (1 << 30, -2) }
        let files = resources { ($0.memoryLimit, $0.memorySwapLimit) = (1 << 30, 3 << 30) }.cgroupFiles
        #expect(files["memory.swap.max"] == "\(2 << 30)")
        #expect(resources { ($0.memoryLimit, $0.memorySwapLimit) = (1 << 30, 1 << 30) }.cgroupFiles["memory.swap.max"] == "0")
        #expect(resources { $0.memorySwapLimit = -1 }.cgroupFiles["memory.swap.max"] == "max")
    }

    @Test func whatTheKubeletSendsIsTaken() throws {
        let pod = resources {
            ($0.cpuPeriod, $0.cpuQuota, $0.cpuShares, $0.memoryLimit, $0.oomScoreAdjustment) = (100_000, 1000, 2, 64 << 20, -997)
            $0.cpusetCPUs = "0-3,8"
            $0.cpusetMemoryNodes = "0"
            $0.hugepageLimits = [.init(pageSize: "2MB", limit: 0), .init(pageSize: "1GB", limit: 0)]
            $0.unified = ["memory.oom.group": "1", "memory.high": "50000000", "cgroup.max.depth": "3"]
        }
        try pod.check("linux")
        try LinuxResources().check("linux")
        try resources { ($0.cpuQuota, $0.cpuPeriod) = (-1, 100_000) }.check("linux")
        #expect(LinuxResources().cgroupFiles.isEmpty)
        #expect(
            pod.cgroupFiles == [
                "cpu.max": "1000 100000", "cpu.weight": "1", "memory.max": "67108864", "memory.oom.group": "1", "memory.high": "50000000",
                "cgroup.max.depth": "3",
            ])
    }

    /// The values of OCI runtimes at both ends and at the kubelet's usual points.
    @Test(arguments: [(2, 1), (1024, 39), (102, 4), (262_144, 10_000), (512, 20)] as [(Int64, Int64)])
    func sharesBecomeWeights(shares: Int64, weight: Int64) {
        #expect(LinuxResources.weight(ofShares: shares) == weight)
    }

    @Test func aChangeReplacesWhatItSaysAndNothingElse() {
        let old = resources {
            ($0.cpuShares, $0.memoryLimit, $0.oomScoreAdjustment) = (100, 1 << 30, 5)
            $0.unified = ["pids.max": "10", "memory.high": "5"]
        }
        let new = old.updated(
            by: resources {
                ($0.memoryLimit, $0.cpuQuota, $0.oomScoreAdjustment) = (2 << 30, -1, 900)
                $0.unified = ["pids.max": "20"]
            })
        #expect((new.cpuShares, new.memoryLimit, new.cpuQuota, new.oomScoreAdjustment) == (100, 2 << 30, -1, 5))
        #expect(new.unified == ["pids.max": "20", "memory.high": "5"])
        #expect(new.cgroupFiles["cpu.max"] == "max 100000")
        #expect(old.updated(by: LinuxResources()) == old)
    }
}

@Suite struct MachineSizingTests {
    private let configuration: MicroVMConfiguration

    init() throws {
        var configuration = MicroVMConfiguration(
            kernel: "/k", initramfs: "/i", runDirectory: "/r", stateDirectory: "/s", vsockBackend: "/v", accelerator: .tcg,
            vsock: .vhostUser, users: try .test(), sharedUser: .test)
        configuration.nodeCPUs = 8
        configuration.maximumMemory = 8 << 30
        self.configuration = configuration
    }

    private func limit(_ memory: Int64, quota: Int64 = 0, shares: Int64 = 0) -> LinuxResources {
        var resources = LinuxResources()
        (resources.memoryLimit, resources.cpuQuota, resources.cpuShares) = (memory, quota, shares)
        return resources
    }

    private func extent(_ pod: LinuxResources?, _ overhead: LinuxResources? = nil, _ containers: [LinuxResources] = []) -> MachineExtent {
        configuration.extent(for: PodDemand(pod: pod, overhead: overhead, containers: containers))
    }

    @Test func aPodWithoutLimitsGetsTheDefault() {
        #expect(extent(nil) == MachineExtent(memoryBytes: 512 << 20, vcpus: 1))
        #expect(extent(nil, nil, [LinuxResources(), LinuxResources()]) == extent(nil))
        #expect(extent(LinuxResources(), LinuxResources()) == extent(nil))
    }

    @Test func theGuestHasWhatItNeedsBesideTheLimit() {
        let size = extent(limit(1 << 30))
        #expect(size.memoryBytes == (1 << 30) + (64 << 20) + (32 << 20))
        // What the overhead has beyond QEMU's own need goes to the guest; a small one takes nothing away.
        #expect(extent(limit(1 << 30), limit(64 << 20)) == size)
        #expect(extent(limit(1 << 30), limit(296 << 20)).memoryBytes == (1 << 30) + (200 << 20))
    }

    @Test func limitsOfContainersAddUp() {
        let quarter = limit(256 << 20, quota: 150_000)
        #expect(extent(nil, nil, [quarter]).memoryBytes > 512 << 20)
        #expect(extent(nil, nil, [quarter, quarter, quarter]).memoryBytes > 768 << 20)
        #expect(extent(limit(1 << 30), nil, [quarter, quarter]).memoryBytes == extent(limit(1 << 30)).memoryBytes)
        #expect(extent(nil, nil, [quarter, quarter]).vcpus == 3)
        // One without a limit needs room as well.
        #expect(extent(limit(256 << 20), nil, [quarter, LinuxResources()]).memoryBytes > 768 << 20)
    }

    @Test func weightsAskForCPUsWhereNoQuotaDoes() {
        #expect(extent(limit(0, shares: 2048)).vcpus == 2)
        #expect(extent(limit(0, quota: 50_000, shares: 4096)).vcpus == 1)
    }

    @Test func aMachineFitsTheControlGroupsAboveItOrIsRefusedWithTheNumbers() throws {
        func fitted(_ mebibytes: UInt64, _ overhead: LinuxResources? = nil) throws -> UInt64 {
            let demand = PodDemand(pod: limit(256 << 20), overhead: overhead)
            return try configuration.extent(for: demand, within: .init(bytes: mebibytes << 20, group: "/pods/p")).memoryBytes >> 20
        }
        // 256, and 64 and a 32nd for the guest; 96 for QEMU.
        #expect(try fitted(512) == 328)
        #expect(try fitted(424) == 328)
        #expect(try fitted(384, limit(128 << 20)) == 288)
        #expect(try fitted(256) == 160)
        let refused = #expect(throws: SwiftletError.self) { try fitted(200) }
        #expect(refused?.code == .failedPrecondition)
        let text = try #require(refused?.message)
        for part in ["/pods/p", "\(200 << 20) bytes", "\(224 << 20) at least", "\(424 << 20) for this pod", "168Mi"] {
            #expect(text.contains(part), "\(text)")
        }
        let demand = PodDemand(pod: limit(256 << 20), overhead: nil)
        #expect(try configuration.extent(for: demand, within: nil) == configuration.extent(for: demand))
    }

    @Test func noMachineIsLargerThanTheNode() {
        #expect(extent(limit(1 << 50, quota: 1 << 43)) == MachineExtent(memoryBytes: 8 << 30, vcpus: 8))
        #expect(configuration.growth(from: extent(nil)) == MachineExtent(memoryBytes: 8 << 30, vcpus: 8))
        let crowd = Array(repeating: limit(1 << 50, quota: (1 << 44) - 1), count: 100_000)
        #expect(extent(nil, nil, crowd) == MachineExtent(memoryBytes: 8 << 30, vcpus: 8))
    }
}

@Suite struct PodResourcesTests {
    private func memory(_ bytes: Int64) -> LinuxResources {
        var resources = LinuxResources()
        resources.memoryLimit = bytes
        return resources
    }

    @Test func aPodsNewLimitsReachItsMachineAndAreKept() async throws {
        let node = try await FakeNode()
        var spec = FakeNode.spec()
        spec.resources = memory(1 << 30)
        let id = try await node.registry.runSandbox(spec)
        let updates = try #require(node.handler.machine(of: id)).updates
        var change = memory(2 << 30)
        change.cpuShares = 100
        try await node.registry.updateSandbox(id, resources: change, overhead: memory(256 << 20))
        #expect(updates.demands.last?.pod == change && updates.demands.last?.overhead == memory(256 << 20))
        #expect(try node.registry.sandbox(id).spec.resources == change)

        updates.refuse(growth: true)
        await #expect(throws: SwiftletError.self) {
            try await node.registry.updateSandbox(id, resources: memory(4 << 30), overhead: nil)
        }
        #expect(try node.registry.sandbox(id).spec.resources == change, "what the machine refused is not shown")
        updates.refuse()
        var bad = LinuxResources()
        bad.cpuQuota = 3
        let error = await #expect(throws: SwiftletError.self) {
            try await node.registry.updateSandbox(id, resources: bad, overhead: nil)
        }
        #expect(error?.message.contains("resources.cpu_quota") == true)

        let stored = try await PodStore(database: node.database).load().sandboxes
        #expect((try stored.first?.document.get().spec.resources) == change)
        try await node.registry.stopSandbox(id)
        let stopped = await #expect(throws: SwiftletError.self) {
            try await node.registry.updateSandbox(id, resources: memory(8 << 30), overhead: nil)
        }
        #expect(stopped?.code == .failedPrecondition)
        await node.close()
    }
}
