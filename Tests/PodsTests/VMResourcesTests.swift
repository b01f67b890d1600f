import Errors
import Foundation
import MachineFakes
import Machines
import Support
import Testing

@testable import NativeVMRuntime
@testable import PodMachine
@testable import Runtime

/// What a virtual machine's container uses and may use, on a hypervisor without machines.
@Suite(.enabled(if: geteuid() == 0, "machines run as users of their own"), .timeLimit(.minutes(2))) struct VMResourcesTests {
    private static let mebibyte: UInt64 = 1 << 20

    private static func limit(_ mebibytes: UInt64) -> LinuxResources {
        var resources = LinuxResources()
        resources.memoryLimit = Int64(mebibytes * mebibyte)
        return resources
    }

    /// A started machine of 512 MiB that may grow to 1 GiB.
    private static func start(_ daemon: VMGround.Daemon) async throws -> (any Sandbox, Ledger) {
        let (sandbox, ledger) = (try await daemon.start(), try await daemon.ledger())
        var plan = try daemon.ground.plan(["swiftlet/memory-max": "1Gi"])
        plan.spec.resources = limit(512)
        _ = try await sandbox.createContainer(VMGround.container, plan, ledger: ledger)
        try await sandbox.startContainer(VMGround.container, ledger: ledger)
        return (sandbox, ledger)
    }

    private static func release(_ ground: VMGround, _ ledger: Ledger) async -> [PendingRelease] {
        ledger.close()
        return await ledger.releaseAll(by: Releasers(ground.machines.releasers + [ground.configuration.vsock.releaser]))
    }

    private static func balloons(_ ground: VMGround) -> [UInt64] {
        ground.hypervisor.calls(.balloon).compactMap { call in
            guard case .balloon(_, let bytes) = call else { return nil }
            return bytes / mebibyte
        }
    }

    @Test(arguments: [RecordingHypervisor.Fault.fail(.deadlineExceeded), .failAfterwards(.deadlineExceeded)])
    func aResizeThatFailsLeavesTheGuestTheMemoryOfItsRecord(_ fault: RecordingHypervisor.Fault) async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = try await Self.start(daemon)
            func resize(from old: UInt64, to new: UInt64) async throws {
                try await sandbox.updateContainer(VMGround.container, from: Self.limit(old), to: Self.limit(new))
            }
            // Less, while what comes after the balloon fails.
            ground.hypervisor.inject(fault, at: .grow, times: 1)
            await #expect(throws: SwiftletError.self) { try await resize(from: 512, to: 256) }
            #expect(Self.balloons(ground) == [256, 512])
            // Less, by a balloon that comes through after its time.
            ground.hypervisor.inject(fault, at: .balloon, times: 1)
            await #expect(throws: SwiftletError.self) { try await resize(from: 512, to: 256) }
            #expect(Self.balloons(ground) == [256, 512, 256, 512])
            #expect(try ground.saved().extent.memoryBytes == 512 * Self.mebibyte)

            try await resize(from: 512, to: 256)
            #expect(try ground.saved().extent.memoryBytes == 256 * Self.mebibyte)
            // More than it was started with, for a guest that takes none.
            let former = Self.balloons(ground)
            ground.hypervisor.inject(fault, at: .grow, times: 1)
            await #expect(throws: SwiftletError.self) { try await resize(from: 256, to: 1024) }
            #expect(Self.balloons(ground) == former + [512, 256])
            #expect(try ground.saved().extent.memoryBytes == 256 * Self.mebibyte)
            try await resize(from: 256, to: 1024)
            #expect(Self.balloons(ground) == former + [512, 256, 512])
            #expect(try ground.saved().extent.memoryBytes == 1024 * Self.mebibyte)
            #expect(await Self.release(ground, ledger).isEmpty)
        }
    }

    /// A kubelet evicts by them.
    @Test func theWritableLayerIsTheDisksThatGoWithTheContainer() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = try await daemon.run([
                "swiftlet/data-volumes": "- {name: scratch, size: 16M}\n- {name: more, size: 16M}"
            ])
            var statistics = MachineStatistics()
            for (serial, bytes): (String, UInt64) in [("root", 1000), ("scratch", 200), ("more", 30), ("other", 4)] {
                statistics.disks[serial] = .init()
                statistics.disks[serial]?.allocated = bytes
            }
            ground.hypervisor.setStatistics(statistics, of: ground.machine)
            let figures = try await sandbox.statistics(openFiles: false, containers: 1)
            #expect(figures.containers.map { $0.writableLayer?.usedBytes } == [1230])

            var record = try ground.saved()
            let directory = ground.names().stateDirectory
            #expect(record.ephemeralDisks(in: directory) == ["root", "scratch", "more"])
            // Volumes' disks have places in the container's directory.
            record.root = .init(name: "volume", description: "volume")
            #expect(record.ephemeralDisks(in: directory) == ["scratch", "more"])
            let more = try #require(record.machine.disks.first { $0.serial == "more" })
            record.lentFiles = [.init(volume: "/volume", name: "disk.img", place: more.path)]
            #expect(record.ephemeralDisks(in: directory) == ["scratch"])
            #expect(await Self.release(ground, ledger).isEmpty)
        }
    }
}
