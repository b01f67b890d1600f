import Errors
import GRDB
import Support
import Synchronization
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

@Suite struct PodRegistryTests {
    @Test func aSandboxIsReadyAndThenLeavesNothing() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        #expect(try node.registry.sandbox(id).isReady)
        #expect(try node.registry.sandbox(id).addresses == ["10.88.0.5"])
        #expect(try await node.ledger().count == 4)
        try await node.registry.stopSandbox(id)
        try await node.registry.stopSandbox(id)
        #expect(try node.registry.sandbox(id).state == .stopped)
        #expect(try await node.ledger().isEmpty)
        #expect(node.handler.existing.isEmpty)
        #expect(node.handler.state.withLock { $0.released } == ["machine", "tap", "networkAttachment", "networkNamespace"])
        try await node.registry.removeSandbox(id)
        try await node.registry.removeSandbox(id)
        #expect(node.registry.sandboxes().isEmpty)
        await node.close()
    }

    @Test(arguments: [Injection.failNetwork, .failMachine, .failAgent])
    func aFailedStartLeavesNothing(_ injection: Injection) async throws {
        let node = try await FakeNode()
        node.handler.inject(injection)
        let error = await #expect(throws: SwiftletError.self) { try await node.registry.runSandbox(FakeNode.spec()) }
        #expect(error?.message.contains("injected") == true)
        #expect(error?.message.contains("default/pod") == true)
        #expect(node.handler.existing.isEmpty)
        #expect(try await node.ledger().isEmpty)
        #expect(node.registry.sandboxes().isEmpty)
        node.handler.inject(.none)
        _ = try await node.registry.runSandbox(FakeNode.spec())
        await node.close()
    }

    @Test func whatCannotBeReleasedStaysListedAndIsRetried() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.handler.state.withLock { $0.failReleases = [.tap] }
        let error = await #expect(throws: SwiftletError.self) { try await node.registry.stopSandbox(id) }
        #expect(error?.message.contains("tap tap-\(id)") == true)
        #expect(try node.registry.sandbox(id).pendingReleases == ["tap tap-\(id)"])
        #expect(try node.registry.sandbox(id).isReady == false)
        #expect(node.handler.existing == ["tap-\(id)"])
        node.handler.state.withLock { $0.failReleases = [] }
        try await node.registry.stopSandbox(id)
        #expect(node.handler.existing.isEmpty)
        #expect(try await node.ledger().isEmpty)
        await node.close()
    }

    @Test func aReleaseThatHangsKeepsNoOtherFromItsRetry() async throws {
        let node = try await FakeNode(release: .seconds(30))
        let hung = try await node.registry.runSandbox(FakeNode.spec("hung"))
        let other = try await node.registry.runSandbox(FakeNode.spec("other"))
        node.handler.state.withLock { $0.failReleases = [.tap] }
        for id in [hung, other] { await #expect(throws: SwiftletError.self) { try await node.registry.stopSandbox(id) } }
        node.handler.state.withLock { $0.hangNames = ["tap-\(hung)"] }
        node.registry.startCollector(every: .milliseconds(5))
        try await eventually("the retry hangs") { node.handler.state.withLock { $0.hanging } == ["tap-\(hung)"] }
        node.handler.state.withLock { $0.failReleases = [] }
        try await eventually("the other is released", within: .seconds(20)) { try await node.ledger() == ["tap tap-\(hung)"] }
        await node.close()
    }

    /// As on a disk that has just become full.
    @Test func aMachineWhoseReadinessCannotBeSavedIsClosedAndReleased() async throws {
        let node = try await FakeNode()
        for event in ["INSERT", "UPDATE"] {
            try await node.database.write {
                try $0.execute(
                    sql: """
                        CREATE TRIGGER refuse\(event) BEFORE \(event) ON sandbox WHEN NEW.state = 'ready'
                        BEGIN SELECT RAISE(ABORT, 'injected'); END
                        """)
            }
        }
        let error = await #expect(throws: SwiftletError.self) { try await node.registry.runSandbox(FakeNode.spec()) }
        #expect(error?.description.contains("injected") == true, "\(String(describing: error))")
        let machines = node.handler.state.withLock { Array($0.machines.values) }
        #expect(machines.count == 1 && machines[0].isClosed)
        #expect(node.handler.existing.isEmpty)
        #expect(try await node.ledger().isEmpty)
        #expect(node.registry.sandboxes().isEmpty)
        await node.close()
    }

    @Test func aHungReleaseIsLeftBehindAtItsDeadline() async throws {
        let node = try await FakeNode(release: .milliseconds(500))
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.handler.state.withLock { $0.hangReleases = [.machine] }
        await #expect(throws: SwiftletError.self) { try await node.registry.stopSandbox(id) }
        #expect(node.handler.existing == ["vm-\(id)"])
        #expect(try await node.ledger() == ["machine vm-\(id)"])
        await node.close()
    }

    @Test func aRetriedRequestJoinsTheAttemptInFlight() async throws {
        let node = try await FakeNode()
        node.handler.holdStarts()
        async let first = node.registry.runSandbox(FakeNode.spec())
        while node.handler.starts == 0 { await Task.yield() }
        async let second = node.registry.runSandbox(FakeNode.spec())
        async let third = node.registry.runSandbox(FakeNode.spec())
        while node.registry.waitingForSandboxes < 3 { await Task.yield() }
        node.handler.letStartsGo()
        let ids = try await [first, second, third]
        #expect(node.handler.starts == 1)
        #expect(Set(ids).count == 1)
        await node.close()
    }

    @Test func aPodMayHaveTheNodesNetwork() async throws {
        let node = try await FakeNode()
        var spec = FakeNode.spec()
        spec.networkMode = .node
        let id = try await node.registry.runSandbox(spec)
        #expect(try node.registry.sandbox(id).state == .ready(.node))
        #expect(try node.registry.sandbox(id).addresses.isEmpty)
        #expect(try await node.ledger() == ["tap tap-\(id)", "machine vm-\(id)"], "no namespace, and no plug-in was asked")
        try await node.registry.stopSandbox(id)
        #expect(try await node.ledger().isEmpty)
        await node.close()
    }

    @Test func aDuplicateIsRefusedWithTheIdOfTheFirst() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        let error = await #expect(throws: SwiftletError.self) { try await node.registry.runSandbox(FakeNode.spec()) }
        #expect(error?.code == .alreadyExists)
        #expect(error?.message.contains(id) == true)
        await node.close()
    }

    @Test func aStopEndsAStartThatHangs() async throws {
        let node = try await FakeNode()
        node.handler.inject(.hangAgent)
        let start = Task { try await node.registry.runSandbox(FakeNode.spec()) }
        while node.registry.sandboxes().first?.snapshot.state != .starting(.attached(.sample), phase: "booting") { await Task.yield() }
        let id = try #require(node.registry.sandboxes().first?.snapshot.id)
        while !node.handler.existing.contains("vm-\(id)") { await Task.yield() }
        try await node.registry.stopSandbox(id)
        await #expect(throws: SwiftletError.self) { try await start.value }
        #expect(node.handler.existing.isEmpty)
        #expect(try await node.ledger().isEmpty)
        await node.close()
    }

    @Test func aLostMachineMakesTheSandboxNotReadyAndReleasesIt() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.handler.machine(of: id)?.die("the guest crashed")
        while !node.handler.existing.isEmpty { await Task.yield() }
        #expect(try node.registry.sandbox(id).state == .failed(step: "machine lost: the guest crashed"))
        try await node.registry.stopSandbox(id)
        try await node.registry.removeSandbox(id)
        #expect(node.registry.sandboxes().isEmpty)
        await node.close()
    }

    @Test func anUnknownHandlerIsNamed() async throws {
        let node = try await FakeNode()
        var spec = FakeNode.spec()
        spec.runtimeHandler = "gvisor"
        let error = await #expect(throws: SwiftletError.self) { try await node.registry.runSandbox(spec) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("gvisor") == true)
        await node.close()
    }

    @Test func idsThatNeverExistedCanBeStoppedAndRemoved() async throws {
        try await FakeNode.withPod { node, pod, _ in
            for id in ["abc", "", "../x", "3f0c9a3e-6d0e-4b5a-9d0a-1f6c6c1f2b7e", "FEED", "a\u{0}", String(repeating: "f", count: 10_000)] {
                try await node.registry.stopSandbox(id)
                try await node.registry.removeSandbox(id)
                try await node.registry.stopContainer(id, timeout: .zero)
                try await node.registry.removeContainer(id)
                #expect(throws: SwiftletError.self) { try node.registry.sandbox(id) }
            }
            #expect(try node.registry.sandbox(pod).isReady)
        }
    }

    // MARK: Recovery

    @Test func aRestartFindsReadySandboxesAgain() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.registry.close()
        await node.images.shutdown()
        let next = try await FakeNode(handler: node.handler, directory: node.directory)
        try await next.registry.recover()
        await next.registry.recovered()
        #expect(try next.registry.sandbox(id).isReady)
        try await next.registry.stopSandbox(id)
        #expect(node.handler.existing.isEmpty)
        await next.close()
    }

    /// As crictl does after four seconds, or a kubelet that ends.
    @Test func aStartThatItsClientGivesUpIsRolledBack() async throws {
        let node = try await FakeNode(abandoned: .milliseconds(50))
        node.handler.inject(.hangAgent)
        let start = Task { try await node.registry.runSandbox(FakeNode.spec()) }
        while !node.handler.existing.contains(where: { $0.hasPrefix("vm-") }) { await Task.yield() }
        start.cancel()
        await #expect(throws: (any Error).self) { try await start.value }
        try await eventually("nothing is left") { node.registry.sandboxes().isEmpty && node.handler.existing.isEmpty }
        #expect(try await node.ledger().isEmpty)
        node.handler.inject(.none)
        _ = try await node.registry.runSandbox(FakeNode.spec())
        await node.close()
    }

    @Test func aSandboxThatNobodyHasTakenIsRemovedUnlessItIsUsed() async throws {
        let node = try await FakeNode(abandoned: .seconds(5))
        var ids: [String] = []
        for name in ["used", "unused"] {
            node.handler.holdStarts()
            let start = Task { try await node.registry.runSandbox(FakeNode.spec(name)) }
            while node.registry.waitingForSandboxes < 1 { await Task.yield() }
            start.cancel()
            node.handler.letStartsGo()
            ids.append(try await start.value)
            if name == "used" { _ = try node.registry.sandbox(ids[0]) }
        }
        try await eventually("what nobody uses is removed") { node.registry.sandboxes().map(\.snapshot.id) == [ids[0]] }
        #expect(try node.registry.sandbox(ids[0]).isReady)
        await node.close()
    }

    @Test func aRestartReleasesWhatAnInterruptedStartHeld() async throws {
        let node = try await FakeNode()
        node.handler.inject(.hangAgent)
        let start = Task { try? await node.registry.runSandbox(FakeNode.spec()) }
        while !node.handler.existing.contains(where: { $0.hasPrefix("vm-") }) { await Task.yield() }
        await node.images.shutdown()
        let next = try await FakeNode(handler: node.handler, directory: node.directory)
        try await next.registry.recover()
        await next.registry.recovered()
        #expect(node.handler.existing.isEmpty)
        #expect(next.registry.sandboxes().isEmpty)
        #expect(try await next.ledger().isEmpty)
        start.cancel()
        await next.close()
    }

    @Test func aRestartMarksASandboxWhoseMachineIsGone() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.handler.state.withLock { $0.machines = [:] }
        await node.images.shutdown()
        let next = try await FakeNode(handler: node.handler, directory: node.directory)
        try await next.registry.recover()
        await next.registry.recovered()
        #expect(try next.registry.sandbox(id).isReady == false)
        #expect(node.handler.existing.isEmpty)
        await next.close()
    }
}
