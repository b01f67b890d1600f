import Errors
import Foundation
import Logs
import State
import Synchronization
import Testing

@testable import MicroVMRuntime
@testable import PodMachine
@testable import Pods
@testable import Runtime

@Suite(.timeLimit(.minutes(1))) struct LedgerTests {
    private struct Ground {
        let directory = NSTemporaryDirectory() + "swiftlet-ledger-" + UUID().uuidString
        let database: StateDatabase

        init() throws {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            database = try StateDatabase(path: directory + "/state.sqlite")
        }

        func stored() async throws -> [String] {
            try await database.read { try ResourceRecord.order(sql: "sequence").fetchAll($0) }.map { "\($0.owner) \($0.kind) \($0.name)" }
        }

        func close() { try? FileManager.default.removeItem(atPath: directory) }
    }

    @Test func entriesAreReadFromMemoryAsTheJournalHasThem() async throws {
        let ground = try Ground()
        defer { ground.close() }
        let ledger = Ledger(owner: "pod", database: ground.database)
        for kind in ["a", "b", "c"] { try await ledger.note(ResourceKind(kind), "name", TapDocument(namespace: "1")) }
        // A new document leaves the entry in its place.
        try await ledger.note(ResourceKind("a"), "name", TapDocument(namespace: "2"))
        #expect(ledger.entries.map(\.kind.rawValue) == ["a", "b", "c"])
        #expect(try ledger.entry(ResourceKind("a"))?.decoded(TapDocument.self).namespace == "2")
        #expect(try await Ledger.stored(in: ground.database) == ["pod": ledger.entries])
    }

    @Test func nothingIsAcquiredOnceItsOwnerIsBeingReleased() async throws {
        let ground = try Ground()
        defer { ground.close() }
        let ledger = Ledger(owner: "pod", database: ground.database)
        try await ledger.note(.tap, "tap", EmptyDocument())
        ledger.close()
        let error = await #expect(throws: SwiftletError.self) { try await ledger.acquire(.machine, "vm") {} }
        #expect(error?.code == .aborted)
        #expect(try await ground.stored() == ["pod tap tap"])
    }

    @Test func whatOneOwnerHoldsIsHandedToAnotherWhole() async throws {
        let ground = try Ground()
        defer { ground.close() }
        let pool = Ledger(owner: "pool", database: ground.database)
        try await pool.note(.tap, "tap", EmptyDocument())
        let pod = Ledger(owner: "pod", database: ground.database)
        try await pod.note(.networkNamespace, "netns", EmptyDocument())
        try await pool.note(.machine, "vm", EmptyDocument())
        try await pool.transfer(to: pod)
        #expect(pool.entries.isEmpty)
        #expect(pod.entries.map(\.name) == ["netns", "tap", "vm"] && pod.entries.allSatisfy { $0.owner == "pod" })
        #expect(try await ground.stored() == ["pod networkNamespace netns", "pod tap tap", "pod machine vm"])
        await #expect(throws: SwiftletError.self) { try await pool.note(.tap, "second", EmptyDocument()) }

        // An owner that is being released takes nothing, and nothing is taken from it.
        let late = Ledger(owner: "late", database: ground.database)
        pod.close()
        let error = await #expect(throws: SwiftletError.self) { try await pod.transfer(to: late) }
        #expect(error?.code == .aborted)
        #expect(pod.entries.count == 3)
    }

    @Test func aKindThatThisVersionDoesNotKnowStaysListed() async throws {
        let ground = try Ground()
        defer { ground.close() }
        let ledger = Ledger(owner: "pod", database: ground.database)
        try await ledger.note(.tap, "tap", EmptyDocument())
        try await ledger.note(ResourceKind("hologram"), "h1", EmptyDocument())
        let left = await ledger.releaseAll(by: Releasers([ResourceReleaser(.tap) { _ in }]))
        #expect(left.map(\.entry.name) == ["h1"])
        #expect(left.first?.reason.contains("does not know the kind hologram") == true)
        #expect(try await ground.stored() == ["pod hologram h1"])
    }

    @Test func aReleaseThatTakesLongBeginsBesideTheOthersAndEndsBeforeWhatItStandsOn() async throws {
        let ground = try Ground()
        defer { ground.close() }
        let ledger = Ledger(owner: "pod", database: ground.database)
        for kind in [ResourceKind.networkNamespace, .networkAttachment, .machine] { try await ledger.note(kind, "a", EmptyDocument()) }
        let steps = Mutex<[String]>([])
        @Sendable func step(_ text: String) { steps.withLock { $0.append(text) } }
        @Sendable func wait(for text: String) async { while !steps.withLock({ $0.contains(text) }) { await Task.yield() } }
        let left = await ledger.releaseAll(
            by: Releasers([
                ResourceReleaser(.networkAttachment, beginsAtOnce: true) { _ in
                    step("attachment begins")
                    await wait(for: "machine ended")
                    step("attachment ended")
                },
                ResourceReleaser(.machine) { _ in
                    await wait(for: "attachment begins")
                    step("machine ended")
                },
                ResourceReleaser(.networkNamespace) { _ in step("namespace ended") },
            ]))
        #expect(left.isEmpty)
        #expect(steps.withLock { $0 } == ["attachment begins", "machine ended", "attachment ended", "namespace ended"])
        #expect(try await ground.stored().isEmpty)
    }

    @Test func aReleaseThatHasBegunAtOnceAndFailsStaysListed() async throws {
        let ground = try Ground()
        defer { ground.close() }
        let ledger = Ledger(owner: "pod", database: ground.database)
        for kind in [ResourceKind.tap, .machine] { try await ledger.note(kind, "a", EmptyDocument()) }
        let failing = ResourceReleaser(.tap, beginsAtOnce: true) { _ in throw SwiftletError(.unavailable, "busy") }
        #expect(await ledger.releaseAll(by: Releasers([failing, ResourceReleaser(.machine) { _ in }])).map(\.entry.kind) == [.tap])
        #expect(try await ground.stored() == ["pod tap a"])
        let hanging = ResourceReleaser(.tap, beginsAtOnce: true) { _ in try await Task.sleep(for: .seconds(1000)) }
        #expect(await ledger.releaseAll(within: .milliseconds(50), by: Releasers([hanging])).map(\.entry.kind) == [.tap])
        #expect(await ledger.releaseAll(by: Releasers([ResourceReleaser(.tap, beginsAtOnce: true) { _ in }])).isEmpty)
        #expect(try await ground.stored().isEmpty)
    }
}

@Suite(.timeLimit(.minutes(1))) struct ReleaseTests {
    @Test func aLostMachineAndAStopAtOnceReleaseEachEntryOnce() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.handler.state.withLock { $0.holdsReleases = true }
        node.handler.machine(of: id)?.die("the guest crashed")
        while node.handler.state.withLock({ $0.releasing.isEmpty }) { await Task.yield() }
        // The kubelet sees NOTREADY and stops and removes the pod while its release is under way.
        async let stop: Void = node.registry.stopSandbox(id)
        async let removal: Void = node.registry.removeSandbox(id)
        while try node.registry.sandbox(id).state.name != "stopping" { await Task.yield() }
        node.handler.state.withLock { $0.holdsReleases = false }
        _ = try await (stop, removal)
        let (released, twice) = node.handler.state.withLock { ($0.released, $0.releasedTwiceAtOnce) }
        #expect(twice.isEmpty)
        #expect(released == ["machine", "tap", "networkAttachment", "networkNamespace"])
        #expect(node.registry.sandboxes().isEmpty)
        #expect(try await node.ledger().isEmpty)
        await node.close()
    }

    @Test func aReleaseThatHasBegunGoesOnWhenItsCallerGoesAway() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.handler.state.withLock { $0.holdsReleases = true }
        let stop = Task { try await node.registry.stopSandbox(id) }
        while node.handler.state.withLock({ $0.releasing.isEmpty }) { await Task.yield() }
        stop.cancel()
        node.handler.state.withLock { $0.holdsReleases = false }
        try await node.registry.stopSandbox(id)
        #expect(node.handler.state.withLock { $0.released.count } == 4)
        #expect(try node.registry.sandbox(id).state == .stopped)
        await node.close()
    }

    @Test func orphansAreReleasedAtOnceWithoutTheirHandlerAndUntilNothingIsLeft() async throws {
        let node = try await FakeNode()
        // Two owners whose records are gone: the one's release hangs until the other's has begun.
        for owner in ["a", "b"] {
            try await Ledger(owner: owner, database: node.database).note(.tap, "tap-\(owner)", EmptyDocument())
            node.handler.state.withLock { _ = $0.existing.insert("tap-\(owner)") }
        }
        let both = Mutex(Set<String>())
        let tap = ResourceReleaser(.tap) { entry in
            both.withLock { _ = $0.insert(entry.name) }
            while both.withLock({ $0.count }) < 2 { await Task.yield() }
            if entry.name == "tap-a", node.handler.state.withLock({ $0.failReleases.contains(.tap) }) {
                throw SwiftletError(.unavailable, "injected")
            }
        }
        node.handler.state.withLock { $0.failReleases = [.tap] }
        let next = PodRegistry(
            handlers: [], network: FakeHandler(), releasers: [tap], images: node.images, database: node.database,
            output: InProcessOutput(logs: LocalOutput(directory: node.directory, reader: SilentOutput(), logger: node.logger)),
            logger: node.logger)
        try await next.recover()
        await next.recovered()
        #expect(try await node.ledger() == ["tap tap-a"])
        #expect(next.orphans.pending == ["tap tap-a"])
        node.handler.state.withLock { $0.failReleases = [] }
        await next.orphans.release()
        #expect(try await node.ledger().isEmpty)
        #expect(next.orphans.pending.isEmpty)
        next.close()
        await node.close()
    }
}
