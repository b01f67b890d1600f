import Errors
import Foundation
import GRDB
import State
import Support
import Testing

@testable import Pods
@testable import Runtime

/// Containers of a pod whose machine does what the test says.
@Suite struct ContainerLifeTests {
    private static func container(_ name: String, attempt: UInt32 = 0) -> ContainerSpec {
        ContainerSpec(metadata: .init(name: name, attempt: attempt), image: FakeNode.image)
    }

    @Test func aStartThatFailsSaysWhetherTheContainerCanEverRun() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let cases: [(SwiftletError.Code, String)] = [
                (.notFound, "ContainerCannotRun"), (.invalidArgument, "ContainerCannotRun"), (.unavailable, "StartError"),
                (.resourceExhausted, "StartError"), (.internal, "StartError"),
            ]
            for (attempt, (code, reason)) in cases.enumerated() {
                let id = try await node.registry.createContainer(in: pod, Self.container("c", attempt: UInt32(attempt)))
                machine.life.failStarts(SwiftletError(code, "injected"))
                let error = await #expect(throws: SwiftletError.self) { try await node.registry.startContainer(id) }
                #expect(error?.code == code)
                let exit = try #require(try node.registry.container(id).state.exit)
                #expect(exit.reason == reason && exit.code == 128 && exit.message.contains("injected"), "\(exit)")
                let again = await #expect(throws: SwiftletError.self) { try await node.registry.startContainer(id) }
                #expect(again?.code == .failedPrecondition)
            }
        }
    }

    @Test func aContainerThatTheGuestHasLostIsNoneThatCannotRun() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let id = try await node.registry.createContainer(in: pod, Self.container("c"))
            machine.life.loseAll()
            machine.life.failStarts(SwiftletError(.notFound, "container"))
            await #expect(throws: SwiftletError.self) { try await node.registry.startContainer(id) }
            #expect(try node.registry.container(id).state.exit?.reason == "StartError")
        }
    }

    @Test func anEndIsAskedForAgainWhateverFails() async throws {
        try await FakeNode.withPod { node, pod, machine in
            machine.life.failWaits(2)
            let id = try await node.registry.createContainer(in: pod, Self.container("c"))
            try await node.registry.startContainer(id)
            try await eventually("both waits have failed") { machine.life.failuresLeft == 0 }
            machine.life.end(ProcessExit(code: 7, outOfMemory: false, exitedAt: 0))
            try await eventually("the end is recorded") { try node.registry.container(id).state.exit?.code == 7 }
        }
    }

    @Test func containersWhoseMachineGoesAwayMeanwhileAreStoppedAndRemoved() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let running = try await node.registry.createContainer(in: pod, Self.container("c"))
            try await node.registry.startContainer(running)
            let created = try await node.registry.createContainer(in: pod, Self.container("d"))
            // The machine is gone, and its watch has not seen it yet.
            machine.life.deafen(SwiftletError(.unavailable, "the connection was lost"))
            async let stop: Void = node.registry.stopContainer(running, timeout: .seconds(60))
            async let removal: Void = node.registry.removeContainer(created)
            try await Task.sleep(for: .milliseconds(100))
            machine.die("QEMU has ended")
            _ = try await (stop, removal)
            let exit = try #require(try node.registry.container(running).state.exit)
            #expect(exit.code == 137 && exit.message.contains("QEMU has ended"), "\(exit)")
            #expect(node.registry.containers().map(\.snapshot.id) == [running])
        }
    }

    @Test func aMachineThatTheNodeKilledForMemorySaysSoInItsContainers() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let id = try await node.registry.createContainer(in: pod, Self.container("c"))
            try await node.registry.startContainer(id)
            machine.die("the node's kernel killed it", outOfMemory: true)
            try await eventually("the end is recorded") { try node.registry.container(id).state.exit != nil }
            let exit = try #require(try node.registry.container(id).state.exit)
            #expect(exit.code == 137 && exit.reason == "OOMKilled" && exit.message.contains("the node's kernel"), "\(exit)")
        }
    }

    @Test func aContainerThatHasEndedKeepsItsCodeWhenItsPodIsStopped() async throws {
        try await FakeNode.withPod { node, pod, machine in
            machine.life.failWaits(1)
            let id = try await node.registry.createContainer(in: pod, Self.container("c"))
            try await node.registry.startContainer(id)
            machine.life.end(ProcessExit(code: 3, outOfMemory: false, exitedAt: 0))
            try await node.registry.stopSandbox(pod)
            #expect(try node.registry.container(id).state.exit?.code == 3)
        }
    }

    @Test(arguments: [
        (ProcessExit(code: 0, outOfMemory: false, exitedAt: 0), "Completed"),
        (ProcessExit(code: 7, outOfMemory: false, exitedAt: 0), "Error"),
        (ProcessExit(code: 137, outOfMemory: false, exitedAt: 0), "Error"),
        (ProcessExit(code: 137, outOfMemory: true, exitedAt: 0), "OOMKilled"),
    ])
    func anEndHasItsCodeAndReason(_ end: ProcessExit, _ reason: String) async throws {
        try await FakeNode.withPod { node, pod, machine in
            let id = try await node.registry.createContainer(in: pod, Self.container("c"))
            try await node.registry.startContainer(id)
            machine.life.end(end)
            while try node.registry.container(id).state.exit == nil { await Task.yield() }
            let exit = try #require(try node.registry.container(id).state.exit)
            #expect(exit.code == end.code && exit.reason == reason && exit.message.isEmpty)
        }
    }

    @Test func aRetriedCreationJoinsTheOneInFlight() async throws {
        try await FakeNode.withPod { node, pod, machine in
            machine.life.holdCreations(true)
            let first = Task { try await node.registry.createContainer(in: pod, Self.container("c")) }
            while machine.life.creations < 1 { await Task.yield() }
            first.cancel()
            let second = Task { try await node.registry.createContainer(in: pod, Self.container("c")) }
            let other = Task { try await node.registry.createContainer(in: pod, Self.container("c", attempt: 1)) }
            while machine.life.creations < 2 { await Task.yield() }
            while node.registry.waitingForContainers < 3 { await Task.yield() }
            machine.life.holdCreations(false)
            let ids = [try await first.value, try await second.value, try await other.value]
            #expect(ids[0] == ids[1] && ids[1] != ids[2])
            #expect(machine.life.creations == 2)
            #expect(node.registry.containers().count == 2)
        }
    }

    @Test func aContainerThatNeverRanLeavesNoFileOpen() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let id = try await node.registry.createContainer(in: pod, Self.container("c"))
            #expect(Self.openFiles(named: id) == 1)
            try await node.registry.removeContainer(id)
            #expect(Self.openFiles(named: id) == 0)
        }
    }

    /// Descriptors of this process on files, also deleted ones, in whose path this occurs.
    private static func openFiles(named part: String) -> Int {
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
        return descriptors.filter {
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))?.contains(part) == true
        }.count
    }

    @Test func limitsThatCannotBeSavedAreTakenBack() async throws {
        try await FakeNode.withPod { node, pod, machine in
            var spec = Self.container("c")
            spec.resources.cpuShares = 1024
            let id = try await node.registry.createContainer(in: pod, spec)
            try await node.database.write { try $0.drop(table: ContainerRecord.databaseTableName) }
            var change = LinuxResources()
            (change.cpuShares, change.memoryLimit) = (2, 64 << 20)
            await #expect(throws: SwiftletError.self) { try await node.registry.updateContainer(id, change) }
            let old = ["cpu.weight": "39", "memory.max": "max"]
            #expect(machine.updates.files(of: id) == [["cpu.weight": "1", "memory.max": "67108864"], old])
            #expect(machine.updates.demands.last?.containers == [spec.resources], "the machine is fitted to what holds again")
            #expect(try node.registry.container(id).spec.resources == spec.resources)
        }
    }

    @Test func aChangeOfLimitsThatIsNotConfirmedInTimeIsTakenBack() async throws {
        try await FakeNode.withPod { node, pod, machine in
            var spec = Self.container("c")
            spec.resources.cpuShares = 1024
            let id = try await node.registry.createContainer(in: pod, spec)
            machine.updates.answerNextFilesLate()
            var change = LinuxResources()
            change.cpuShares = 2
            let error = await #expect(throws: SwiftletError.self) { try await node.registry.updateContainer(id, change) }
            #expect(error?.code == .deadlineExceeded)
            #expect(machine.updates.files(of: id) == [["cpu.weight": "1"], ["cpu.weight": "39"]])
            #expect(try node.registry.container(id).spec.resources == spec.resources)
        }
    }
}
