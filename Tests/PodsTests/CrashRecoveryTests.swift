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
    @Test func oneThatIsAccusedAloneIsTheCulprit() {
        let pods: Set = ["a", "b", "c"]
        func findings(_ suspects: [String], row: Int = 1) -> CrashFindings {
            CrashFindings(.init(signal: SIGILL, suspects: suspects, crashesInARow: row), pods: pods)
        }
        #expect(CrashFindings(nil, pods: pods) == findings([]))
        #expect(findings(["a", "gone"]).culprit == "a" && findings(["a", "gone"]).suspects.isEmpty)
        #expect(findings(["a", "b"]).culprit == nil && findings(["a", "b"]).suspects == ["a", "b"])
        #expect(findings([], row: 2).suspects.isEmpty, "it may have been anything")
        #expect(findings([], row: 3).suspects == pods)
    }

    /// What a daemon leaves that crashes while it works on what these pods sent.
    private func leaveCrash(_ pods: [String], at path: String) throws {
        var record = clinux_crash_record()
        record.version = 1
        record.signal = SIGILL
        try withUnsafeMutablePointer(to: &record) { pointer in
            for (number, pod) in pods.enumerated() {
                let slot = try #require(clinux_crash_slot(pointer, Int32(number)))
                withUnsafeMutableBytes(of: &slot.pointee.name) { $0.copyBytes(from: Array(pod.utf8)) }
                slot.pointee.work = 1
            }
        }
        try withUnsafeBytes(of: &record) { try Data($0).write(to: URL(fileURLWithPath: path)) }
    }

    private func successor(of node: FakeNode) throws -> PodRegistry {
        PodRegistry(
            handlers: [node.handler], network: node.handler, releasers: [], images: node.images, database: node.database,
            output: LocalOutput(directory: node.directory, reader: SilentOutput(), logger: node.logger),
            crashes: try CrashRecord(path: node.directory + "/crash"), logger: node.logger)
    }

    @Test func theCulpritIsSetApartAndTheOthersServe() async throws {
        let node = try await FakeNode()
        let guilty = try await node.registry.runSandbox(FakeNode.spec("guilty"))
        let other = try await node.registry.runSandbox(FakeNode.spec("other"))
        node.registry.close()
        try leaveCrash([guilty, "gone"], at: node.directory + "/crash")
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

    @Test func suspectsAreFoundAgainOneByOne() async throws {
        let node = try await FakeNode()
        var ids: [String] = []
        for name in ["a", "b", "c"] { ids.append(try await node.registry.runSandbox(FakeNode.spec(name))) }
        node.registry.close()
        try leaveCrash(Array(ids.prefix(2)), at: node.directory + "/crash")
        let next = try successor(of: node)
        try await next.recover()
        await next.recovered()
        for id in ids { #expect(try next.sandbox(id).isReady) }
        #expect(node.handler.state.withLock { $0.reattachments.count } == 3)
        #expect(node.handler.state.withLock { $0.reattachments }.first == ids[2], "who is not suspected comes first")
        next.close()
        await node.close()
    }
}
