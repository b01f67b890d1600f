import Errors
import Foundation
import Linux
import MachineFakes
import Machines
import PodMachine
import Runtime
import State
import Support
import Testing

@testable import MicroVMRuntime
@testable import Pods

/// The real handler's pool, on a hypervisor without machines.
@Suite(.timeLimit(.minutes(5))) struct MachinePoolTests {
    private static func spec(_ name: String) -> SandboxSpec {
        SandboxSpec(metadata: .init(name: name, uid: "uid", namespace: "default", attempt: 0))
    }

    private static func pool(_ size: Int, drains: Bool = true, rest: Duration = .milliseconds(1)) -> PoolConfiguration {
        var pool = PoolConfiguration(size: size, drains: drains)
        (pool.rest, pool.firstPause, pool.containerPatience) = (rest, .milliseconds(1), .milliseconds(1))
        return pool
    }

    /// Runs `body` on a node whose pool is full, and looks that nothing is left of it.
    private func withPool(
        _ configuration: PoolConfiguration, _ body: (MatrixNode, MatrixNode.Daemon) async throws -> Void
    ) async throws {
        let ground = try await MatrixGround()
        defer { ground.remove() }
        let node = try MatrixNode(ground, number: 1)
        let daemon = try await node.daemon(pool: configuration)
        do {
            try await daemon.registry.recover()
            try await full(daemon)
            try await body(node, daemon)
        } catch {
            await daemon.close()
            throw error
        }
        await daemon.close()
        if configuration.drains { #expect(try await node.leaks().isEmpty && MatrixNode.taps(on: ground).isEmpty) }
    }

    private func full(_ daemon: MatrixNode.Daemon) async throws {
        try await eventually("the pool is full") { daemon.handler.pool.map { $0.waiting == $0.size } == true }
    }

    private func isFromPool(_ pod: String, _ registry: PodRegistry) throws -> Bool {
        try registry.sandbox(pod).details["fromPool"] == .bool(true)
    }

    private static func owners(_ daemon: MatrixNode.Daemon) async throws -> Set<String> {
        Set(try await daemon.database.read { try ResourceRecord.fetchAll($0) }.map(\.owner))
    }

    @Test func aPodGetsAMachineThatWaitedWithAllThatItHolds() async throws {
        try await withPool(Self.pool(1, rest: .seconds(3600))) { node, daemon in
            let waiting = try #require(node.hypervisor.running.first)
            #expect(try await node.hypervisor.machine(waiting)?.state == .paused)
            let pod = try await daemon.registry.runSandbox(Self.spec("a"))
            #expect(try isFromPool(pod, daemon.registry))
            #expect(node.hypervisor.running == [waiting] && node.hypervisor.calls(.resume) == [.resume(waiting)])
            #expect(try await Self.owners(daemon) == [pod])
            let kinds = try await daemon.database.read { try ResourceRecord.order(ResourceRecord.Columns.sequence).fetchAll($0) }.map(
                \.kind)
            let order = ["user", "directory", "userProcesses", "machine"].map { kinds.firstIndex(of: $0) ?? -1 }
            #expect(order == order.sorted() && !order.contains(-1), "\(kinds)")
            #expect(daemon.registry.pools["microvm"]?.hits == 1)
            try await daemon.registry.removeSandbox(pod)
            #expect(try await node.leaks().isEmpty, "no machine comes back")
        }
    }

    @Test func aPodThatAsksForAnotherMachineBootsOne() async throws {
        try await withPool(Self.pool(1)) { node, daemon in
            let waiting = node.hypervisor.running
            var small = Self.spec("small")
            small.resources = LinuxResources()
            small.resources?.memoryLimit = 64 << 20
            let pod = try await daemon.registry.runSandbox(small)
            #expect(try !isFromPool(pod, daemon.registry))
            try await daemon.registry.removeSandbox(pod)
            #expect(node.hypervisor.running.isSuperset(of: waiting))
            #expect(daemon.handler.pool?.misses ?? 0 > 0 && daemon.handler.pool?.hits == 0)
        }
    }

    private static func spec(_ name: String, memory: Int64, cpus: Int64 = 0) -> SandboxSpec {
        var spec = spec(name)
        var resources = LinuxResources()
        resources.memoryLimit = memory << 20
        if cpus > 0 { (resources.cpuQuota, resources.cpuPeriod) = (cpus * 100_000, 100_000) }
        spec.resources = resources
        return spec
    }

    /// 64 MiB and a 32nd more than a limit are for the guest itself.
    @Test func aPodGetsTheWaitingMachineThatHasTheLeastToGrow() async throws {
        var pool = Self.pool(1, rest: .seconds(3600))
        pool.shapes = [(128, 1), (1024, 1), (512, 2)].map { memory, cpus in
            PoolShape(extent: MachineExtent(memoryBytes: memory << 20, vcpus: cpus), size: 1)
        }
        try await withPool(pool) { node, daemon in
            #expect(node.hypervisor.running.count == 4)
            let figures = { daemon.handler.pool?.shapes.map { "\($0.memoryBytes >> 20)/\($0.vcpus): \($0.waiting), \($0.hits)" } ?? [] }
            let asked: [(SandboxSpec, shape: Int?)] = [
                (Self.spec("huge", memory: 1 << 20), nil), (Self.spec("large", memory: 1000), 2), (Self.spec("none"), 0),
                (Self.spec("small", memory: 64), 1), (Self.spec("another", memory: 64), nil),
                (Self.spec("twice", memory: 1000, cpus: 2), 3),
            ]
            var expected = ["512/1: 1, 0", "128/1: 1, 0", "1024/1: 1, 0", "512/2: 1, 0"]
            var pods: [String] = []
            for (spec, shape) in asked {
                let pod = try await daemon.registry.runSandbox(spec)
                pods.append(pod)
                #expect(try isFromPool(pod, daemon.registry) == (shape != nil), "\(spec.metadata.name)")
                if let shape { expected[shape] = expected[shape].replacing(": 1, 0", with: ": 0, 1") }
                #expect(figures() == expected, "\(spec.metadata.name)")
            }
            #expect(daemon.handler.pool?.hits == 4 && daemon.handler.pool?.misses == 2 && daemon.handler.pool?.waiting == 0)
            for pod in pods { try await daemon.registry.removeSandbox(pod) }
        }
    }

    @Test func aDaemonWithOtherShapesTakesOverThoseThatItHasToo() async throws {
        let (small, large) = (MachineExtent(memoryBytes: 128 << 20, vcpus: 1), MachineExtent(memoryBytes: 1 << 30, vcpus: 1))
        var pool = Self.pool(0, drains: false)
        pool.shapes = [PoolShape(extent: small, size: 2), PoolShape(extent: large, size: 1)]
        try await withPool(pool) { node, daemon in
            await daemon.close()
            var other = Self.pool(1, rest: .seconds(3600))
            other.shapes = [PoolShape(extent: small, size: 1)]
            let next = try await node.daemon(pool: other)
            try await next.registry.recover()
            try await eventually("what is not asked for is ended") { node.hypervisor.running.count <= 2 }
            try await full(next)
            #expect(next.handler.pool?.shapes.map(\.waiting) == [1, 1] && node.hypervisor.calls(.start).count == 4)
            await next.close()
            #expect(try await node.leaks().isEmpty)
        }
    }

    @Test func ofTwoClaimsOfAPoolOfOneTheOtherBoots() async throws {
        try await withPool(Self.pool(1, rest: .seconds(3600))) { node, daemon in
            let registry = daemon.registry
            async let first = registry.runSandbox(Self.spec("a"))
            async let second = registry.runSandbox(Self.spec("b"))
            let pods = try await [first, second]
            #expect(try pods.count { try isFromPool($0, registry) } == 1)
            #expect(node.hypervisor.running.count == 2)
            let users = try await daemon.database.read { try ResourceRecord.fetchAll($0) }.filter { $0.kind == "user" }.map(\.name)
            #expect(Set(users).count == 2)
            for pod in pods { try await registry.removeSandbox(pod) }
        }
    }

    @Test func ofManyClaimsAtOnceAsManyAreServedAsMachinesWait() async throws {
        try await withPool(Self.pool(2, rest: .seconds(3600))) { node, daemon in
            let registry = daemon.registry
            let pods = try await withThrowingTaskGroup(of: String.self) { group in
                for number in 0..<50 { group.addTask { try await registry.runSandbox(Self.spec("p\(number)")) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(try pods.count { try isFromPool($0, registry) } == 2)
            #expect(daemon.handler.pool?.hits == 2 && daemon.handler.pool?.misses == 48)
            for pod in pods { try await registry.removeSandbox(pod) }
        }
    }

    @Test(arguments: [RecordingHypervisor.Fault.fail(.internal), .failAfterwards(.deadlineExceeded), .hang])
    func aMachineThatDoesNotGoOnCostsTheStartABootAlone(_ fault: RecordingHypervisor.Fault) async throws {
        try await withPool(Self.pool(1, rest: .seconds(3600))) { node, daemon in
            let waiting = try #require(node.hypervisor.running.first)
            node.hypervisor.inject(fault, at: .resume)
            let pod = try await daemon.registry.runSandbox(Self.spec("a"))
            #expect(try !isFromPool(pod, daemon.registry) && daemon.registry.sandbox(pod).isReady)
            #expect(daemon.handler.pool?.failures == 1)
            try await eventually("it is ended") { !node.hypervisor.running.contains(waiting) }
            try await eventually("nothing is left of it") { try await Self.owners(daemon) == [pod] }
            try await daemon.registry.removeSandbox(pod)
        }
    }

    @Test func aPodWithoutANetworkUsesNoMachineUp() async throws {
        try await withPool(Self.pool(1, rest: .seconds(3600))) { node, daemon in
            let (waiting, owners) = (try #require(node.hypervisor.running.first), try await Self.owners(daemon))
            let entries = try await daemon.database.read { try ResourceRecord.fetchCount($0) }
            node.network.fail(SwiftletError(.internal, "no address is left"))
            for attempt in 1...3 {
                let error = await #expect(throws: SwiftletError.self) { try await daemon.registry.runSandbox(Self.spec("a\(attempt)")) }
                #expect(error.map { "\($0)" }?.contains("no address is left") == true)
                try await full(daemon)
                #expect(try await node.hypervisor.machine(waiting)?.state == .paused)
            }
            for pod in daemon.registry.sandboxes() { try await daemon.registry.removeSandbox(pod.snapshot.id) }
            #expect(try await Self.owners(daemon) == owners)
            #expect(try await daemon.database.read { try ResourceRecord.fetchCount($0) } == entries)
            node.network.fail(nil)
            let pod = try await daemon.registry.runSandbox(Self.spec("b"))
            #expect(try isFromPool(pod, daemon.registry) && node.hypervisor.running == [waiting])
            #expect(daemon.handler.pool?.hits == 1 && daemon.handler.pool?.failures == 0)
            try await daemon.registry.removeSandbox(pod)
        }
    }

    @Test(arguments: [RecordingHypervisor.Fault.fail(.internal), .hang])
    func aMachineThatCannotBeGivenBackIsThrownAway(_ fault: RecordingHypervisor.Fault) async throws {
        try await withPool(Self.pool(1)) { node, daemon in
            let waiting = try #require(node.hypervisor.running.first)
            node.network.fail(SwiftletError(.internal, "no address is left"))
            node.hypervisor.inject(fault, at: .pause, times: 1)
            await #expect(throws: SwiftletError.self) { try await daemon.registry.runSandbox(Self.spec("a")) }
            try await eventually("it is ended") { !node.hypervisor.running.contains(waiting) }
            try await full(daemon)
            for pod in daemon.registry.sandboxes() { try await daemon.registry.removeSandbox(pod.snapshot.id) }
        }
    }

    @Test func aMachineThatEndsAfterItWasGivenBackIsReplaced() async throws {
        try await withPool(Self.pool(1)) { node, daemon in
            let waiting = try #require(node.hypervisor.running.first)
            node.network.fail(SwiftletError(.internal, "no address is left"))
            await #expect(throws: SwiftletError.self) { try await daemon.registry.runSandbox(Self.spec("a")) }
            try await full(daemon)
            node.hypervisor.end(waiting)
            try await eventually("another waits") { node.hypervisor.running.count == 1 && !node.hypervisor.running.contains(waiting) }
            try await full(daemon)
            for pod in daemon.registry.sandboxes() { try await daemon.registry.removeSandbox(pod.snapshot.id) }
        }
    }

    @Test func aKernelParameterThatGuestsRefuseUsesUpOneMachine() async throws {
        try await withPool(Self.pool(2, rest: .seconds(3600))) { node, daemon in
            node.guests.refuseSandboxes(SwiftletError(.notFound, "starting the sandbox: sysctl net.core.missing: no such file"))
            for attempt in 1...3 {
                var spec = Self.spec("a\(attempt)")
                spec.sysctls = ["net.core.missing": "1"]
                let asked = spec
                let error = await #expect(throws: SwiftletError.self) { try await daemon.registry.runSandbox(asked) }
                #expect(error?.code == .notFound && error.map { "\($0)" }?.contains("sysctl net.core.missing") == true)
            }
            #expect(node.hypervisor.calls(.resume).count == 1 && node.hypervisor.calls(.start).count == 2, "no boot for it either")
            #expect(daemon.handler.pool?.waiting == 1 && daemon.handler.pool?.failures == 0)
            for pod in daemon.registry.sandboxes() { try await daemon.registry.removeSandbox(pod.snapshot.id) }

            node.guests.refuseSandboxes(nil)
            var other = Self.spec("b")
            other.sysctls = ["net.core.missing": "2"]
            let pod = try await daemon.registry.runSandbox(other)
            #expect(try isFromPool(pod, daemon.registry))
            try await daemon.registry.removeSandbox(pod)
        }
    }

    @Test func noMachineIsMadeBeforeAPodsContainerIsExpectedNoMore() async throws {
        var pool = Self.pool(1)
        pool.containerPatience = .seconds(3600)
        try await withPool(pool) { node, daemon in
            let pod = try await daemon.registry.runSandbox(Self.spec("a"))
            try await Task.sleep(for: .milliseconds(300))
            #expect(node.hypervisor.calls(.start).count == 1 && daemon.handler.pool?.waiting == 0)
            try await daemon.registry.stopSandbox(pod)
            try await full(daemon)
            #expect(node.hypervisor.calls(.start).count == 2)
            try await daemon.registry.removeSandbox(pod)
        }
    }

    @Test func aMachineWhoseGuestIsSilentIsThrownAway() async throws {
        try await withPool(Self.pool(1, rest: .seconds(3600))) { node, daemon in
            let waiting = try #require(node.hypervisor.running.first)
            node.guests.end(waiting)
            let pod = try await daemon.registry.runSandbox(Self.spec("a"))
            #expect(try !isFromPool(pod, daemon.registry) && daemon.registry.sandbox(pod).isReady)
            try await eventually("it is ended") { !node.hypervisor.running.contains(waiting) }
            try await daemon.registry.removeSandbox(pod)
        }
    }

    @Test func aMachineThatEndsWhileItWaitsIsReplaced() async throws {
        try await withPool(Self.pool(1)) { node, daemon in
            let waiting = try #require(node.hypervisor.running.first)
            node.hypervisor.end(waiting)
            try await eventually("another waits") { node.hypervisor.running.count == 1 && !node.hypervisor.running.contains(waiting) }
            try await full(daemon)
        }
    }

    @Test func noMachineIsBootedForThePoolWhileAPodStarts() async throws {
        try await withPool(Self.pool(2)) { node, daemon in
            node.hypervisor.inject(.hold, at: .resume)
            let start = Task { try await daemon.registry.runSandbox(Self.spec("a")) }
            try await eventually("a machine is claimed") { !node.hypervisor.calls(.resume).isEmpty }
            try await Task.sleep(for: .milliseconds(300))
            #expect(node.hypervisor.calls(.start).count == 2)
            node.hypervisor.heal(.resume)
            let pod = try await start.value
            try await full(daemon)
            #expect(node.hypervisor.calls(.start).count == 3)
            try await daemon.registry.removeSandbox(pod)
        }
    }

    @Test func bootsThatFailAreTriedAgainAndLeaveNothing() async throws {
        let ground = try await MatrixGround()
        defer { ground.remove() }
        let node = try MatrixNode(ground, number: 1)
        let daemon = try await node.daemon(pool: Self.pool(1))
        node.hypervisor.inject(.fail(.internal), at: .start, times: 2)
        try await daemon.registry.recover()
        try await full(daemon)
        #expect(node.hypervisor.calls(.start).count == 3 && daemon.handler.pool?.obstacle == nil)
        try await eventually("nothing is left of them") { try await Self.owners(daemon).count == 1 }
        await daemon.close()
        #expect(try await node.leaks().isEmpty)
    }

    @Test func theNextDaemonTakesWaitingMachinesOver() async throws {
        try await withPool(Self.pool(2, drains: false)) { node, daemon in
            let waiting = node.hypervisor.running
            await daemon.close()
            #expect(node.hypervisor.running == waiting)
            let next = try await node.daemon(pool: Self.pool(1, rest: .seconds(3600)))
            try await next.registry.recover()
            #expect(next.handler.pool?.waiting == 1)
            try await eventually("what is too much is ended") { node.hypervisor.running.count == 1 }
            #expect(node.hypervisor.calls(.start).count == 2 && node.hypervisor.running.isSubset(of: waiting))
            let pod = try await next.registry.runSandbox(Self.spec("a"))
            #expect(try isFromPool(pod, next.registry))

            // The pod's machine carries another name than the pod: the daemon after that must not take it for a lost one.
            await next.close()
            let last = try await node.daemon()
            try await last.registry.recover()
            await last.registry.recovered()
            #expect(try last.registry.sandbox(pod).isReady && isFromPool(pod, last.registry))
            try await last.registry.removeSandbox(pod)
            #expect(try await node.leaks().isEmpty)
            await last.close()
        }
    }

    enum Change: CaseIterable, Sendable { case kernel, running, gone, noPool }

    @Test(arguments: Change.allCases) func machinesThatAreNotAsNewOnesAreThrownAway(_ change: Change) async throws {
        let ground = try await MatrixGround()
        defer { ground.remove() }
        let node = try MatrixNode(ground, number: 1)
        let daemon = try await node.daemon(pool: Self.pool(1, drains: false))
        try await daemon.registry.recover()
        try await full(daemon)
        let waiting = try #require(node.hypervisor.running.first)
        await daemon.close()
        switch change {
        case .kernel: try Data("new".utf8).write(to: URL(filePath: ground.directory + "/vmlinuz"))
        case .running: try await node.hypervisor.resume(waiting)
        case .gone: node.hypervisor.end(waiting, reported: false)
        case .noPool: break
        }
        let next = try await node.daemon(pool: change == .noPool ? PoolConfiguration() : Self.pool(1))
        try await next.registry.recover()
        await next.registry.recovered()
        try await eventually("it is ended") { !node.hypervisor.running.contains(waiting) }
        if change != .noPool { try await full(next) }
        await next.close()
        #expect(try await node.leaks().isEmpty)
    }

    @Test func aKernelThatWasReplacedIsNoticedAtTheClaim() async throws {
        let ground = try await MatrixGround()
        defer { ground.remove() }
        let node = try MatrixNode(ground, number: 1)
        let daemon = try await node.daemon(pool: Self.pool(1, rest: .seconds(3600)))
        try await daemon.registry.recover()
        try await full(daemon)
        let waiting = try #require(node.hypervisor.running.first)
        try Data("new".utf8).write(to: URL(filePath: ground.directory + "/vmlinuz"))
        let pod = try await daemon.registry.runSandbox(Self.spec("a"))
        #expect(try !isFromPool(pod, daemon.registry))
        try await eventually("it is ended") { !node.hypervisor.running.contains(waiting) }
        try await daemon.registry.removeSandbox(pod)
        await daemon.close()
        #expect(try await node.leaks().isEmpty)
    }

    @Test(arguments: [NodeMemory(available: 1 << 40, pressure: 40), NodeMemory(available: 300 << 20)])
    func aNodeShortOfMemoryMakesNoMachine(_ memory: NodeMemory) async throws {
        let ground = try await MatrixGround()
        defer { ground.remove() }
        let node = try MatrixNode(ground, number: 1)
        let daemon = try await node.daemon(pool: Self.pool(1))
        let pool = MachinePool(daemon.handler, in: daemon.database, releasers: Releasers([]), memory: { memory })
        await pool.fill()
        try await eventually("it says why") { pool.figures.obstacle?.contains("memory") == true }
        #expect(node.hypervisor.calls(.start).isEmpty)
        await pool.close()
        await daemon.close()
    }
}
