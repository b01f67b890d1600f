import Errors
import Foundation
import GRDB
import Runtime
import State
import Testing

@testable import Pods

/// The state on a file system without room.
@Suite(.timeLimit(.minutes(2))) struct StateReserveTests {
    private static func isNamed(_ text: String?) -> Bool {
        text?.contains("the file system of the state database ") == true && text?.contains("state.sqlite is full") == true
    }

    private static func withNode(_ body: (FakeNode, SmallFileSystem) async throws -> Void) async throws {
        try await SmallFileSystem.with(size: 64) { small in
            let node = try await FakeNode(directory: small.path + "/node")
            let result: Result<Void, any Error>
            do { result = .success(try await body(node, small)) } catch { result = .failure(error) }
            await node.close()
            try result.get()
        }
    }

    @Test func onAFullDiskNothingNewIsTakenInAndPodsAreStoppedAndRemoved() async throws {
        try await Self.withNode { node, small in
            let pods = try await [node.registry.runSandbox(FakeNode.spec("a")), node.registry.runSandbox(FakeNode.spec("b"))]
            try small.fill()
            #expect(node.registry.stateObstacle == nil)
            // The reserve is whole until a release needs it: what is new fails by itself.
            var refused = await refusal { _ = try await node.registry.runSandbox(FakeNode.spec("late")) }
            #expect(refused?.code == .resourceExhausted && Self.isNamed(refused?.message), "\(String(describing: refused))")
            for pod in pods {
                try await node.registry.stopSandbox(pod)
                try small.fill()
                try await node.registry.removeSandbox(pod)
                try small.fill()
            }
            #expect(try await node.ledger().isEmpty && node.handler.existing.isEmpty)
            #expect(try await node.database.read { try SandboxRecord.fetchCount($0) } == 0)
            // What is left of the reserve is for releases.
            #expect(Self.isNamed(node.registry.stateObstacle))
            refused = await refusal { _ = try await node.registry.runSandbox(FakeNode.spec("later")) }
            #expect(refused?.code == .resourceExhausted && Self.isNamed(refused?.message), "\(String(describing: refused))")

            small.makeRoom()
            let late = try await node.registry.runSandbox(FakeNode.spec("late"))
            #expect(node.registry.stateObstacle == nil)
            try await node.registry.removeSandbox(late)
        }
    }

    @Test func anEndThatComesWhileTheDiskIsFullIsNotForgotten() async throws {
        try await Self.withNode { node, small in
            let pod = try await node.registry.runSandbox(FakeNode.spec())
            try small.fill()
            node.handler.machine(of: pod)?.die("injected")
            while try node.registry.sandbox(pod).isReady { try await Task.sleep(for: .milliseconds(5)) }
            let path = small.path + "/node/state.sqlite"
            try await eventuallyStored("failed", of: pod, in: node.database)
            // The daemon of the next moment opens the state in spite of the full disk.
            try small.fill()
            let next = try StateDatabase(path: path)
            #expect(try await next.read { try SandboxRecord.fetchOne($0, key: pod)?.state } == "failed")
        }
    }

    private func eventuallyStored(_ state: String, of pod: String, in database: StateDatabase) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while try await database.read({ try SandboxRecord.fetchOne($0, key: pod)?.state }) != state {
            guard ContinuousClock.now < deadline else { throw SwiftletError(.deadlineExceeded, "the end is not stored") }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    @Test func aStateWithoutRoomIsOpenedWithTheReserveAndNamedWithoutOne() async throws {
        try await SmallFileSystem.with(size: 64) { small in
            let path = small.path + "/state.sqlite"
            try await StateDatabase(path: path).write { try NodeSettingRecord(name: "a", document: Data()).insert($0) }
            try small.fill()
            let database = try StateDatabase(path: path)
            #expect(try await database.read { try NodeSettingRecord.fetchCount($0) } == 1)
            #expect(Self.isNamed(database.shortage))
        }
        try await SmallFileSystem.with(size: 1) { small in
            try small.fill()
            let error = #expect(throws: SwiftletError.self) { try StateDatabase(path: small.path + "/state.sqlite") }
            #expect(error?.code == .resourceExhausted && Self.isNamed(error?.message), "\(String(describing: error))")
        }
    }

    private func refusal(_ body: () async throws -> Void) async -> SwiftletError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? SwiftletError
        }
    }
}
