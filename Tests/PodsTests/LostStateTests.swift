import Errors
import Foundation
import GRDB
import State
import Support
import Testing

@testable import Pods
@testable import Runtime

/// The real `microvm` handler at a start that finds pods which no record lists.
@Suite(.timeLimit(.minutes(2))) struct LostStateTests {
    private static func withNode(_ body: (MatrixNode) async throws -> Void) async throws {
        let ground = try await MatrixGround()
        defer { ground.remove() }
        try await body(try MatrixNode(ground, number: 1))
        #expect(try MatrixNode.taps(on: ground).isEmpty)
    }

    private static func start(_ node: MatrixNode) async throws -> MatrixNode.Daemon {
        let daemon = try await node.daemon(.error)
        try await daemon.registry.recover()
        await daemon.registry.recovered()
        return daemon
    }

    @Test func podsOfALostStateAreEndedAndLeaveNothing() async throws {
        try await Self.withNode { node in
            let first = try await Self.start(node)
            for name in ["a", "b"] { _ = try await first.registry.runSandbox(FakeNode.spec(name)) }
            #expect(node.hypervisor.running.count == 2)
            await first.close()
            // What one of them runs beside its machine ends with it.
            let scratch = "\(node.directory)/s/scratch"
            let disk = try #require(try FileManager.default.contentsOfDirectory(atPath: scratch).first { !$0.hasPrefix("template-") })
            let owner = try FileManager.default.attributesOfItem(atPath: "\(scratch)/\(disk)")[.ownerAccountID] as? Int
            let stray = ChildProcess()
            stray.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
            stray.arguments = ["--reuid", "\(try #require(owner))", "--clear-groups", "sleep", "1000"]
            try stray.run()
            defer { stray.terminate() }
            for suffix in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: "\(node.directory)/state.sqlite\(suffix)") }
            // A libvirt that does not answer says nothing about machines: nothing is taken away below one that may run.
            node.hypervisor.inject(.fail(.unavailable), at: .machines)
            let blind = try await Self.start(node)
            #expect(node.hypervisor.running.count == 2 && node.network.existing.count == 4)
            await blind.close()
            node.hypervisor.heal(.machines)
            let second = try await Self.start(node)
            #expect(try await node.leaks().isEmpty)
            try await eventually("the process has ended") { !stray.isRunning }
            await second.close()
        }
    }

    @Test func aPodThatARecordListsIsNobodysLeftover() async throws {
        try await Self.withNode { node in
            let first = try await Self.start(node)
            let (lost, kept) = try await (
                first.registry.runSandbox(FakeNode.spec("lost")), first.registry.runSandbox(FakeNode.spec("kept"))
            )
            try await first.database.write { database in
                try SandboxRecord.deleteOne(database, key: lost)
                try ResourceRecord.filter(ResourceRecord.Columns.owner == lost).deleteAll(database)
            }
            await first.close()
            let second = try await Self.start(node)
            #expect(try second.registry.sandbox(kept).isReady)
            #expect(node.hypervisor.running.count == 1)
            #expect(try await node.leaks().allSatisfy { !$0.contains(lost.prefix(13)) })
            try await second.registry.removeSandbox(kept)
            #expect(try await node.leaks().isEmpty)
            await second.close()
        }
    }
}
