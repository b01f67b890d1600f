import Errors
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

@Suite struct StatisticsTests {
    private static func stats(usage: UInt64) -> SandboxFigures {
        .with { $0.pod.cpu.usageUs = usage }
    }

    @Test func aFrozenGuestIsWaitedForOnceAndKeepsItsLastAnswer() async throws {
        let node = try await FakeNode()
        let healthy = try await node.registry.runSandbox(FakeNode.spec("healthy"))
        let frozen = try await node.registry.runSandbox(FakeNode.spec("frozen"))
        let silent = try await node.registry.runSandbox(FakeNode.spec("silent"))
        node.handler.machine(of: frozen)?.answer.set(Self.stats(usage: 7))
        node.handler.machine(of: silent)?.answer.hold(true)
        let all = try [healthy, frozen, silent].map { try node.registry.sandbox($0) }
        let first = await node.registry.usage(of: all)
        #expect(first.keys.sorted() == [healthy, frozen].sorted())
        node.handler.machine(of: frozen)?.answer.hold(true)
        node.handler.machine(of: healthy)?.answer.set(Self.stats(usage: 9))
        for _ in 0..<3 {
            let next = await node.registry.usage(of: all)
            #expect(next[frozen]?.cgroup.cpu.usageUs == 7)
            #expect(next[healthy]?.cgroup.cpu.usageUs == 9)
            #expect(next[silent] == nil)
        }
        // One question is under way, however often it is asked.
        #expect(node.handler.machine(of: silent)?.answer.asked == 1)
        node.handler.machine(of: frozen)?.answer.set(Self.stats(usage: 8))
        node.handler.machine(of: frozen)?.answer.hold(false)
        while node.registry.lastUsage(of: frozen)?.cgroup.cpu.usageUs != 8 { await Task.yield() }
        node.handler.machine(of: silent)?.answer.hold(false)
        try await node.registry.stopSandbox(frozen)
        #expect(await node.registry.usage(of: [try node.registry.sandbox(frozen)]).isEmpty)
        await node.close()
    }

    @Test func aGuestCannotTellOfOtherContainersNorWithoutBounds() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.handler.machine(of: id)?.answer.set(
            .with {
                $0.containers = [.with { $0.containerID = "not ours" }]
                $0.interfaces = ["eth0", "", "sixteen-letters-", "new\nline"].map { name in .with { $0.name = name } }
                $0.pod.cpuPressure.some.avg10 = .nan
                $0.pod.ioPressure.full.avg300 = 1e300
                $0.pod.memory.usageBytes = 5
                $0.pod.memory.inactiveFileBytes = .max
                $0.pod.cpu.usageUs = .max
            })
        let usage = try #require(await node.registry.usage(of: [try node.registry.sandbox(id)])[id])
        #expect(usage.containers.isEmpty)
        #expect(usage.interfaces.map(\.name) == ["eth0"])
        #expect(usage.cgroup.cpuPressure.some.avg10 == 0)
        #expect(usage.cgroup.ioPressure.full.avg300 == 100)
        #expect(usage.cgroup.memory.workingSetBytes == 0)
        await node.close()
    }

    @Test func theMostHugePagesSeenAreKept() {
        var usage = CgroupUsage()
        var earlier: [HugepageUsage] = []
        for (bytes, peak) in [(4, 4), (9, 9), (2, 9)] as [(UInt64, UInt64)] {
            usage.hugepages = [.with { ($0.size, $0.usageBytes) = ("2MB", bytes) }]
            usage.raiseHugepagePeaks(by: earlier)
            #expect(usage.hugepages[0].peakBytes == peak)
            earlier = usage.hugepages
        }
    }

    @Test func theRateIsOfTheLastInterval() {
        let start = ContinuousClock.now
        // 1 s of CPU time in 4 s of life.
        var rate = CPURate(1_000_000, at: start, age: .seconds(4))
        #expect(rate.nanoCores == 250_000_000)
        rate.update(9_000_000, at: start + .milliseconds(999))
        #expect(rate.nanoCores == 250_000_000)
        rate.update(2_000_000, at: start + .seconds(2))
        #expect(rate.nanoCores == 500_000_000)
        // A counter that goes back, as after a guest's restart or lie, is no use.
        rate.update(0, at: start + .seconds(4))
        #expect(rate.nanoCores == 0)
        #expect(CPURate(1, at: start, age: .seconds(-1)).nanoCores == 0)
    }

    @Test func aProcessCostIsReadWhateverItsName() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 1 0 555 4096 77 18446744073709551615"
        #expect(HostCost.parse("42 (qemu (x) y) \(rest)").map { [$0.ticks, $0.pages] } == [150, 77])
        #expect(HostCost.parse("42 qemu") == nil)
        #expect(HostCost.parsePSS("00400000-7ff000 ---p 00000000 00:00 0 [rollup]\nRss:  9 kB\nPss:    12 kB\n") == 12288)
    }
}
