import Errors
import Foundation
import Linux
import Logging
import MachineFakes
import Machines
import Runtime
import Synchronization
import Testing

@testable import MicroVMRuntime
@testable import PodMachine
@testable import Pods

/// Machines that a full disk has stopped, on a hypervisor without machines.
@Suite(.timeLimit(.minutes(1))) struct FullDisksTests {
    private final class Ground: Sendable {
        let hypervisor = RecordingHypervisor()
        let room = Room()
        let disks: FullDisks

        init(interval: Duration = .milliseconds(5)) {
            disks = FullDisks(
                hypervisor: hypervisor, interval: interval,
                space: { [room] path in
                    let isOther = path.hasPrefix("/other/")
                    return FileSystemSpace(
                        id: .init(device: isOther ? 2 : 1), available: isOther ? room.other.withLock { $0 } : room.bytes.withLock { $0 })
                },
                logger: Logger(label: "test"))
        }

        func machine(watched: Bool = true) async throws -> MachineID {
            let id = MachineID(UUID())
            _ = try await hypervisor.start(
                MachineSpec(
                    id: id, name: "swiftlet-a", shape: MachineShape(memoryBytes: 128 << 20, vcpus: 1, accelerator: .tcg),
                    boot: .kernel(path: "/k", initramfs: "/i", arguments: []), devices: []))
            if watched { disks.watch("/disks/\(id)", of: id) }
            return id
        }

        func stop(_ id: MachineID) {
            hypervisor.fillDisk(of: id, reported: false)
            disks.stopped(id)
        }
    }

    private final class Room: Sendable {
        let bytes = Mutex<UInt64>(0)
        let other = Mutex<UInt64>(0)
    }

    private static let room = FullDisks.roomForEach

    @Test func noMoreMachinesGoOnThanThereIsRoomForAndTheOldestFirst() async throws {
        let ground = Ground(interval: .milliseconds(300))
        let ids = try await [ground.machine(), ground.machine(), ground.machine()]
        for id in ids { ground.stop(id) }
        #expect(ids.allSatisfy { ground.disks.halt(of: $0)?.reason.contains("/disks/\($0) is full") == true })
        try await Task.sleep(for: .milliseconds(400))
        #expect(ground.hypervisor.calls(.resume).isEmpty)
        ground.room.bytes.withLock { $0 = Self.room * 2 }
        while ids.filter({ ground.disks.halt(of: $0) == nil }).count < 2 { try await Task.sleep(for: .milliseconds(1)) }
        // They have not written yet; what they will write is not given to the third as well.
        try await Task.sleep(for: .milliseconds(50))
        #expect(ground.hypervisor.calls(.resume) == [.resume(ids[0]), .resume(ids[1])])
    }

    @Test func aMachineThatNobodyWatchesOrThatSomebodyElsePausedIsLeftAlone() async throws {
        let ground = Ground()
        ground.room.bytes.withLock { $0 = .max }
        let (foreign, paused) = try await (ground.machine(watched: false), ground.machine())
        ground.stop(foreign)
        ground.stop(paused)
        try await ground.hypervisor.pause(paused)
        try await Task.sleep(for: .milliseconds(50))
        #expect(ground.hypervisor.calls(.resume).isEmpty)
        #expect(ground.disks.halt(of: foreign) == nil && ground.disks.halt(of: paused) != nil)
        ground.disks.forget(paused)
    }

    @Test func theFileSystemOfTheDiskThatIsFullIsLookedAt() async throws {
        let ground = Ground()
        ground.room.bytes.withLock { $0 = .max }
        let id = try await ground.machine()
        ground.hypervisor.fillDisk(of: id, reported: false)
        ground.disks.stopped(id, at: "/other/data")
        #expect(ground.disks.halt(of: id)?.reason.contains("/other/data is full") == true)
        try await Task.sleep(for: .milliseconds(100))
        #expect(ground.hypervisor.calls(.resume).isEmpty)
        ground.room.other.withLock { $0 = .max }
        while ground.disks.halt(of: id) != nil { try await Task.sleep(for: .milliseconds(1)) }
        #expect(ground.hypervisor.calls(.resume) == [.resume(id)])
    }

    /// As one on a thin pool, of which no file system tells.
    @Test func aMachineThatStopsAgainAtOnceIsLetGoOnLessAndLessOften() async throws {
        let ground = Ground(interval: .milliseconds(20))
        ground.room.bytes.withLock { $0 = .max }
        let id = try await ground.machine()
        ground.stop(id)
        var (seen, goesOn) = (0, 0)
        let begin = ContinuousClock.now
        while seen < 7 {
            let resumes = ground.hypervisor.calls(.resume).count
            if resumes > seen {
                seen = resumes
                // What it says of itself until it stops again.
                try await Task.sleep(for: .milliseconds(2))
                if ground.disks.halt(of: id) == nil { goesOn += 1 }
                ground.stop(id)
            }
            try await Task.sleep(for: .milliseconds(1))
        }
        // The pauses before each: 20, 20, 40, 80, 160, 320 and 640 ms.
        #expect(begin.duration(to: .now) > .milliseconds(1000))
        #expect(goesOn <= 1, "\(goesOn)")
        #expect(ground.disks.halt(of: id) != nil)
    }

    @Test(.enabled(if: geteuid() == 0, "makes a device")) func aDeviceHasRoomUntilItSaysOtherwise() throws {
        let node = NSTemporaryDirectory() + "swiftlet-node-\(UUID().uuidString)"
        defer { unlink(node) }
        try #require(mknod(node, S_IFBLK | 0o600, 7 << 8) == 0)
        #expect(FullDisks.space(of: node) == FileSystemSpace(id: .init(device: 7 << 8), available: .max))
        #expect(FullDisks.space(of: "/absent") == nil)
        #expect(FullDisks.space(of: "/tmp").map { $0.available < .max } == true)
    }

    @Test func aLibvirtThatIsAwayIsAskedAgain() async throws {
        let ground = Ground()
        ground.room.bytes.withLock { $0 = .max }
        ground.hypervisor.inject(.fail(.unavailable), at: .machine, times: 3)
        ground.hypervisor.inject(.fail(.deadlineExceeded), at: .resume, times: 2)
        let id = try await ground.machine()
        var halts = ground.disks.halts(of: id).makeAsyncIterator()
        #expect(await halts.next() == .some(nil))
        ground.stop(id)
        #expect(await halts.next()??.reason.contains("is full") == true)
        #expect(await halts.next() == .some(nil))
        #expect(ground.hypervisor.calls(.resume).count == 3)
        ground.disks.forget(id)
        #expect(await halts.next() == nil)
    }
}

/// What the heart makes of a sandbox that does not run.
@Suite(.timeLimit(.minutes(1))) struct HaltedPodTests {
    @Test func callsForAGuestThatDoesNotRunFailAtOnceAndStopAndRemoveDoNot() async throws {
        try await FakeNode.withPod { node, pod, machine in
            let spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: FakeNode.image)
            let container = try await node.registry.createContainer(in: pod, spec)
            try await node.registry.startContainer(container)
            machine.report(SandboxHalt(reason: "the file system of /x is full", since: 1))
            while try node.registry.sandbox(pod).halt == nil { try await Task.sleep(for: .milliseconds(1)) }
            #expect(try node.registry.sandbox(pod).isReady)
            #expect(node.registry.halted == "pod sandbox default/pod cannot run: the file system of /x is full")
            let calls: [@Sendable () async throws -> Void] = [
                { _ = try await node.registry.execute(container, ["/x"], timeout: nil) },
                { try await node.registry.stopContainer(container, timeout: .seconds(30)) },
                { _ = try await node.registry.createContainer(in: pod, spec.renamed("other")) },
            ]
            for call in calls {
                let error = await #expect(throws: SwiftletError.self) { try await call() }
                #expect(error?.code == .unavailable && error?.message.contains("/x is full") == true, "\(String(describing: error))")
            }
            let began = ContinuousClock.now
            try await node.registry.stopSandbox(pod)
            try await node.registry.removeSandbox(pod)
            // A container's end is waited for so long.
            #expect(.now - began < PodDeadlines().sandboxStop)
            #expect(node.registry.halted == nil)
        }
    }

    @Test func aPodThatGoesOnIsAskedAgain() async throws {
        try await FakeNode.withPod { node, pod, machine in
            machine.report(SandboxHalt(reason: "full", since: 1))
            while try node.registry.sandbox(pod).halt == nil { try await Task.sleep(for: .milliseconds(1)) }
            machine.report(nil)
            while try node.registry.sandbox(pod).halt != nil { try await Task.sleep(for: .milliseconds(1)) }
            let spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: FakeNode.image)
            _ = try await node.registry.createContainer(in: pod, spec)
        }
    }
}

extension ContainerSpec {
    fileprivate func renamed(_ name: String) -> ContainerSpec {
        var spec = self
        spec.metadata.name = name
        return spec
    }
}
