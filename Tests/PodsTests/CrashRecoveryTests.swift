import CLinux
import Errors
import Foundation
import Linux
import Logging
import Logs
import Support
import Testing

@testable import Pods
@testable import Runtime

/// What a daemon does that follows one which crashed on what a guest sent.
@Suite(.timeLimit(.minutes(2)), .serialized) struct CrashRecoveryTests {
    @Test func whoIsAccusedIsTheCulpritAndNobodyElseASuspect() {
        let pods: Set = ["a", "b", "c"]
        func findings(_ culprit: String? = nil, row: Int = 1) -> CrashFindings {
            CrashFindings(.init(signal: SIGILL, culprit: culprit, crashesInARow: row), pods: pods)
        }
        #expect(CrashFindings(nil, pods: pods) == findings())
        #expect(findings("a").culprit == "a" && findings("a", row: 5).suspects.isEmpty)
        #expect(findings("gone", row: 5) == findings(), "it is not there any more")
        #expect(findings(row: 2).suspects.isEmpty, "it may have been anything")
        #expect(findings(row: 3).suspects == pods && findings(row: 3).culprit == nil)
    }

    /// What a daemon leaves whose thread crashes while it works on what the pod sent; nil: on nobody's data.
    private func leaveCrash(_ pod: String?, alone: String? = nil, row: Int32 = 0, at path: String) throws {
        var record = clinux_crash_record()
        (record.version, record.signal, record.crashes) = (2, SIGILL, row)
        try withUnsafeMutablePointer(to: &record) { pointer in
            for (number, name) in [pod, alone].enumerated() {
                guard let name else { continue }
                let slot = try #require(clinux_crash_slot(pointer, Int32(number)))
                withUnsafeMutableBytes(of: &slot.pointee) { $0.copyBytes(from: Array(name.utf8)) }
            }
        }
        (record.accused, record.alone) = (pod == nil ? 0 : 1, alone == nil ? 0 : 2)
        try withUnsafeBytes(of: &record) { try Data($0).write(to: URL(fileURLWithPath: path)) }
    }

    private func successor(of node: FakeNode) throws -> PodRegistry {
        PodRegistry(
            handlers: [node.handler], network: node.handler, releasers: [], images: node.images, database: node.database,
            output: InProcessOutput(logs: LocalOutput(directory: node.directory, reader: SilentOutput(), logger: node.logger)),
            crashes: try CrashRecord(path: node.directory + "/crash"), logger: node.logger)
    }

    @Test func theCulpritIsSetApartAndTheOthersServe() async throws {
        let node = try await FakeNode()
        let guilty = try await node.registry.runSandbox(FakeNode.spec("guilty"))
        let other = try await node.registry.runSandbox(FakeNode.spec("other"))
        node.registry.close()
        try leaveCrash(guilty, at: node.directory + "/crash")
        let next = try successor(of: node)
        try await next.recover()
        await next.recovered()
        #expect(try next.sandbox(other).isReady)
        guard case .failed(let reason) = try next.sandbox(guilty).state else {
            Issue.record("\(try next.sandbox(guilty).state)")
            return
        }
        #expect(reason.contains("crashed (signal \(SIGILL))"))
        #expect(!node.handler.existing.contains("vm-\(guilty)") && node.handler.existing.contains("vm-\(other)"))
        try await next.stopSandbox(guilty)
        try await next.removeSandbox(guilty)
        next.close()
        await node.close()
    }

    @Test func afterCrashesOfNobodysEachPodIsFoundAgainAloneBeforeTheDaemonServes() async throws {
        let node = try await FakeNode()
        var ids: [String] = []
        for name in ["a", "b", "c"] { ids.append(try await node.registry.runSandbox(FakeNode.spec(name))) }
        node.registry.close()
        try leaveCrash(nil, alone: ids[0], row: 2, at: node.directory + "/crash")
        let next = try successor(of: node)
        try await next.recover()
        #expect(node.handler.state.withLock { $0.reattachments } == ids.sorted(), "in their order, before recover() returns")
        for id in ids { #expect(try next.sandbox(id).isReady, "who was alone at one crash is not guilty") }
        next.close()
        await node.close()
    }

    /// The daemon before may have waited for a group above to allow a limit.
    @Test func networksAndLimitsOfPodsThatWereFoundAgainAreLookedAfter() async throws {
        let node = try await FakeNode()
        var spec = FakeNode.spec("kept")
        spec.cgroupParent = "/kubepods/pod1"
        let (kept, stopped) = (
            try await node.registry.runSandbox(spec), try await node.registry.runSandbox(FakeNode.spec("stopped"))
        )
        let machine = try #require(node.handler.machine(of: kept))
        let demands = machine.updates.demands.count
        try await node.registry.stopSandbox(stopped)
        node.registry.close()
        let next = try successor(of: node)
        try await next.recover()
        await next.recovered()
        await next.reviews.withLock { $0 }?.value
        #expect(node.handler.state.withLock { $0.checked } == [kept])
        #expect(machine.updates.demands.count == demands + 1)
        next.close()
        await node.close()
    }

    /// Ids have 64 characters, and all of them tell one pod from another.
    @Test func aPodsOwnMarkAccusesIt() throws {
        let path = NSTemporaryDirectory() + "crash-" + UUID().uuidString
        defer { unlink(path) }
        let id = Identifier.make()
        try leaveCrash(nil, at: path)
        let record = try CrashRecord(path: path)
        let mark = record.mark(for: id)
        #expect(mark.during { clinux_crash_enter(0) } == 1, "the mark has a slot")
        #expect(try String(decoding: Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self).contains(id))
    }
}
