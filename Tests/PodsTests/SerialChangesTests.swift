import Errors
import Support
import Synchronization
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

/// What comes at the same moment for one pod.
@Suite(.timeLimit(.minutes(2))) struct SerialChangesTests {
    private static func resources(_ change: (inout LinuxResources) -> Void) -> LinuxResources {
        var resources = LinuxResources()
        change(&resources)
        return resources
    }

    private func create(_ node: FakeNode, _ pod: String, _ name: String = "c") async throws -> String {
        try await node.registry.createContainer(in: pod, ContainerSpec(metadata: .init(name: name, attempt: 0), image: FakeNode.image))
    }

    private func pod(_ id: String, _ node: FakeNode) throws -> Pod {
        try #require(node.registry.pods.withLock { $0[id] })
    }

    @Test func aMachineIsFittedToWhatIsDemandedWhenItsTurnComes() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let container = try await create(node, pod)
            let (small, large) = (Self.resources { $0.memoryLimit = 1 << 30 }, Self.resources { $0.memoryLimit = 2 << 30 })
            machine.updates.hold(.fits)
            async let first: Void = node.registry.updateContainer(container, small)
            try await eventually("the change is under way") { machine.updates.running(.fits) }
            async let second: Void = node.registry.updateSandbox(pod, resources: large, overhead: nil)
            async let third = create(node, pod, "late")
            try await eventually("both wait for the machine's fit") { try await self.pod(pod, node).fits.waiting == 2 }
            machine.updates.hold(nil)
            _ = try await (first, second, third)
            #expect(machine.updates.most == 1)
            let last = try #require(machine.updates.demands.last)
            #expect(last.pod == large && last.containers.count == 2 && last.containers.contains(small))
        }
    }

    @Test func noChangeOfAPodsLimitsIsLost() async throws {
        try await FakeNode.withPod { node, pod, machine in
            machine.updates.hold(.fits)
            async let first: Void = node.registry.updateSandbox(pod, resources: Self.resources { $0.memoryLimit = 1 << 30 }, overhead: nil)
            try await eventually("the change is under way") { machine.updates.running(.fits) }
            async let second: Void = node.registry.updateSandbox(pod, resources: Self.resources { $0.cpuShares = 7 }, overhead: nil)
            try await eventually("the second change waits") { try await self.pod(pod, node).updates.waiting == 1 }
            machine.updates.hold(nil)
            _ = try await (first, second)
            let both = Self.resources { ($0.memoryLimit, $0.cpuShares) = (1 << 30, 7) }
            #expect(try node.registry.sandbox(pod).spec.resources == both)
            let stored = try await PodStore(database: node.database).load().sandboxes
            #expect((try stored.first?.document.get().spec.resources) == both)
        }
    }

    @Test func aChangeThatIsTakenBackTakesNoOtherAlong() async throws {
        try await FakeNode.withPod { node, pod, machine in
            machine.updates.hold(.fits)
            machine.updates.refuseNextGrowth()
            let first = Task {
                try await node.registry.updateSandbox(pod, resources: Self.resources { $0.memoryLimit = 1 << 30 }, overhead: nil)
            }
            try await eventually("the change is under way") { machine.updates.running(.fits) }
            async let second: Void = node.registry.updateSandbox(pod, resources: Self.resources { $0.cpuShares = 7 }, overhead: nil)
            try await eventually("the second change waits") { try await self.pod(pod, node).updates.waiting == 1 }
            machine.updates.hold(nil)
            await #expect(throws: SwiftletError.self) { try await first.value }
            try await second
            #expect(try node.registry.sandbox(pod).spec.resources == Self.resources { $0.cpuShares = 7 })
        }
    }

    /// Else it would be saved again after it was forgotten.
    @Test func aRemovalWaitsForAChangeOfLimitsInFlight() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let container = try await create(node, pod)
            machine.updates.hold(.files)
            let update = Task { try await node.registry.updateContainer(container, Self.resources { $0.cpuShares = 7 }) }
            try await eventually("the change is under way") { machine.updates.running(.files) }
            let removal = Task { try await node.registry.removeContainer(container) }
            try await eventually("the removal has begun") { try await self.pod(pod, node).removes(container) }
            #expect(machine.life.deletions.isEmpty)
            machine.updates.hold(nil)
            _ = await update.result
            try await removal.value
            #expect(machine.life.deletions == [container])
            #expect(node.registry.containers().isEmpty)
            #expect(try await PodStore(database: node.database).load().containers.isEmpty)
        }
    }

    @Test func aRemovedPodIsNotSavedAgainByAChangeOfItsLimitsInFlight() async throws {
        try await FakeNode.withPod { node, pod, machine in
            machine.updates.hold(.fits)
            let update = Task {
                try await node.registry.updateSandbox(pod, resources: Self.resources { $0.cpuShares = 7 }, overhead: nil)
            }
            try await eventually("the change is under way") { machine.updates.running(.fits) }
            let removal = Task { try await node.registry.removeSandbox(pod) }
            // The removal stops it first.
            try await eventually("the pod is stopped") { try node.registry.sandbox(pod).state.name == "stopped" }
            machine.updates.hold(nil)
            _ = await update.result
            try await removal.value
            #expect(try await PodStore(database: node.database).load().sandboxes.isEmpty)
            #expect(node.registry.sandboxes().isEmpty)
        }
    }

    /// As a virtiofsd is: started by a thread that no stop cancels.
    @Test func whatACreationAcquiresAtTheMomentOfAStopIsReleased() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let late = LateMounts(on: node, machine)
            let creation = Task { try await create(node, pod) }
            try await eventually("the creation acquires its mounts") { late.begun }
            let stop = Task { try await node.registry.stopSandbox(pod) }
            try await eventually("the pod is stopping") { try node.registry.sandbox(pod).state.name == "stopping" }
            #expect(try await node.ledger().contains { $0.hasPrefix("shareMounts late-") })
            late.go()
            try await stop.value
            await #expect(throws: SwiftletError.self) { try await creation.value }
            #expect(node.handler.existing.isEmpty)
            #expect(try await node.ledger().isEmpty)
            try await node.registry.removeSandbox(pod)
            #expect(node.registry.containers().isEmpty)
        }
    }

    /// A source on a network filesystem that hangs must not keep the machine.
    @Test func aCreationThatDoesNotEndKeepsOnlyWhatItMayAcquire() async throws {
        try await FakeNode.withPod(release: .milliseconds(500)) { node, pod, machine in
            let late = LateMounts(on: node, machine)
            let creation = Task { try await create(node, pod) }
            try await eventually("the creation acquires its mounts") { late.begun }
            let error = await #expect(throws: SwiftletError.self) { try await node.registry.stopSandbox(pod) }
            #expect(error?.message.contains("has not ended yet") == true)
            #expect(node.handler.existing.isEmpty, "its machine is gone")
            #expect(try await node.ledger().allSatisfy { $0.hasPrefix("shareMounts") || $0.hasPrefix("imageLease") })
            late.go()
            await #expect(throws: SwiftletError.self) { try await creation.value }
            try await node.registry.stopSandbox(pod)
            #expect(node.handler.existing.isEmpty)
            #expect(try await node.ledger().isEmpty)
        }
    }

    @Test func aSaveThatComesAfterTheRemovalDoesNotBringTheRecordBack() async throws {
        try await FakeNode.withPod { node, pod, _ in
            let id = try await create(node, pod)
            try await self.pod(pod, node).saveBehindTheRemoval(of: id)
            #expect(try await PodStore(database: node.database).load().containers.isEmpty)
        }
    }

    @Test func whateverIsCreatedWhileItsPodIsRemovedGoesWithIt() async throws {
        let node = try await FakeNode()
        try await node.loadImage()
        for number in 0..<20 {
            let pod = try await node.registry.runSandbox(FakeNode.spec("pod-\(number)"))
            let creations = (0..<3).map { name in Task { try await create(node, pod, "c\(name)") } }
            for _ in 0..<number * 2 { await Task.yield() }
            try await node.registry.removeSandbox(pod)
            for creation in creations { _ = await creation.result }
            let stored = try await PodStore(database: node.database).load()
            #expect(stored.sandboxes.isEmpty && stored.containers.isEmpty)
            #expect(node.registry.containers().isEmpty && node.handler.existing.isEmpty)
            #expect(try await node.ledger().isEmpty)
        }
        await node.close()
    }
}

/// Holds the work that reaches it until it is ended.
private final class Hold: Sendable {
    private let state = Mutex((reached: false, ended: false))

    var isReached: Bool { state.withLock { $0.reached } }
    func end() { state.withLock { $0.ended = true } }

    func wait() async {
        state.withLock { $0.reached = true }
        while !state.withLock({ $0.ended }) { await Task.yield() }
    }
}

/// Something that each creation of a container makes, not before it is let go and whether or not it is cancelled.
private final class LateMounts: Sendable {
    private let state = Mutex((begun: false, free: false))

    var begun: Bool { state.withLock { $0.begun } }
    func go() { state.withLock { $0.free = true } }

    init(on node: FakeNode, _ machine: FakeMachine) {
        let handler = node.handler
        machine.life.acquire { [self] id, ledger in
            try await ledger.acquire(.shareMounts, "late-\(id)") {
                state.withLock { $0.begun = true }
                while !state.withLock({ $0.free }) { await Task.yield() }
                _ = handler.state.withLock { $0.existing.insert("late-\(id)") }
            }
        }
    }
}

extension Pod {
    fileprivate func removes(_ container: String) -> Bool { containers[container]?.removeAttempt != nil }

    /// Removes a container, and saves it when the deletion of its record has been asked for.
    fileprivate func saveBehindTheRemoval(of id: String) async throws {
        let container = try container(id)
        let (saves, hold) = (container.saves, Hold())
        let held = Task { await saves.run { await hold.wait() } }
        try await eventually("the queue is held") { hold.isReached }
        let removal = Task { try await removeContainer(id) }
        try await eventually("the deletion waits for its turn") { saves.waiting == 1 }
        let save = Task { try await self.save(container) }
        try await eventually("the save waits behind it") { saves.waiting == 2 }
        hold.end()
        await held.value
        try await removal.value
        try await save.value
    }
}
