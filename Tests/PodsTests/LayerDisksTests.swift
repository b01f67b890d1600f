import Errors
import Foundation
import MachineFakes
import Machines
import Runtime
import State
import Testing

@testable import MicroVMRuntime

/// The layers of containers as disks of their machine.
struct LayerDisksTests {
    private final class Ground: Sendable {
        let hypervisor = RecordingHypervisor()
        let machine = MachineID(UUID())
        let database: StateDatabase
        let table: LayerDiskTable
        private let path = NSTemporaryDirectory() + "layers-\(UInt32.random(in: 0 ... .max)).sqlite"

        init(disks: [String] = []) async throws {
            database = try StateDatabase(path: path)
            table = LayerDiskTable(hypervisor: hypervisor)
            _ = try await hypervisor.start(
                MachineSpec(
                    id: machine, name: "m", shape: MachineShape(memoryBytes: 128 << 20, vcpus: 1, accelerator: .tcg),
                    boot: .kernel(path: "/k", initramfs: "/i", arguments: []),
                    devices: disks.map { .disk(DiskSpec(path: "/" + $0, serial: $0, readOnly: true)) }))
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }

        var disks: LayerDisks { table.disks(of: machine, process: nil) }
        var attached: [String] {
            hypervisor.devices(of: machine).compactMap { if case .disk(let serial) = $0 { serial } else { nil } }
        }

        func ledger(_ container: String) -> Ledger { Ledger(owner: container, database: database) }

        func release(_ ledger: Ledger) async -> [PendingRelease] {
            let table = table
            let releasers = Releasers([
                ResourceReleaser(.layerDisks, scope: .container) { try await table.release($0) },
                ResourceReleaser(.imageLease, scope: .container) { _ in },
            ])
            ledger.close()
            return await ledger.releaseAll(by: releasers)
        }
    }

    private static func layers(_ serials: String...) -> [LayerImage] {
        serials.map { LayerImage(path: "/" + $0, serial: $0, filesystem: "erofs", sizeBytes: 4096) }
    }

    @Test func aDiskGoesWithTheLastContainerThatUsesIt() async throws {
        let ground = try await Ground()
        let (first, second) = (ground.ledger("first"), ground.ledger("second"))
        try await ground.disks.attach(Self.layers("base", "a", "base"), for: "first", ledger: first)
        try await ground.disks.attach(Self.layers("base", "b"), for: "second", ledger: second)
        #expect(ground.attached == ["base", "a", "b"])
        #expect(ground.hypervisor.calls(.attach).count == 2, "one call for all layers of a container")
        #expect(await ground.release(first).isEmpty)
        #expect(ground.attached == ["base", "b"])
        #expect(await ground.release(second).isEmpty)
        #expect(ground.attached.isEmpty)
        #expect(first.entries.isEmpty && second.entries.isEmpty)
    }

    @Test func disksThatAreThereAreNotAskedForAgain() async throws {
        let ground = try await Ground()
        let (first, second, third) = (ground.ledger("first"), ground.ledger("second"), ground.ledger("third"))
        try await ground.disks.attach(Self.layers("a", "b"), for: "first", ledger: first)
        try await ground.disks.attach(Self.layers("b", "a"), for: "second", ledger: second)
        #expect(ground.hypervisor.calls(.attach).count == 1)
        #expect(await ground.release(first).isEmpty)
        #expect(ground.attached == ["a", "b"])
        // Not known any more once they were to go, also when that fails.
        ground.hypervisor.inject(.fail(.internal), at: .detach)
        #expect(await !ground.release(second).isEmpty)
        try await ground.disks.attach(Self.layers("a"), for: "third", ledger: third)
        #expect(ground.hypervisor.calls(.attach).count == 2)
        ground.hypervisor.heal(.detach)
        for ledger in [second, third] { #expect(await ground.release(ledger).isEmpty) }
        #expect(ground.attached.isEmpty)
    }

    @Test func aRestartedDaemonKnowsWhoUsesWhat() async throws {
        let ground = try await Ground()
        let (first, second) = (ground.ledger("first"), ground.ledger("second"))
        try await ground.disks.attach(Self.layers("base", "a"), for: "first", ledger: first)
        try await ground.disks.attach(Self.layers("base", "b"), for: "second", ledger: second)
        ground.table.forget(ground.machine)
        #expect(await !ground.release(first).isEmpty, "as long as the machine is not found again it is not known who uses what")
        try await ground.disks.restore(first.all(.layerDisks, named: LayerDisks.name(ground.machine, "")))
        #expect(await ground.release(first).isEmpty)
        #expect(ground.attached == ["base", "b"])
        #expect(await ground.release(second).isEmpty)
        #expect(ground.attached.isEmpty)
    }

    @Test func theHoldOnTheImageLastsAsLongAsTheDisk() async throws {
        let ground = try await Ground()
        let ledger = ground.ledger("first")
        try await ledger.acquire(.imageLease, "first") {}
        try await ground.disks.attach(Self.layers("a"), for: "first", ledger: ledger)
        ground.hypervisor.inject(.fail(.internal), at: .detach)
        #expect(await Set(ground.release(ledger).map(\.entry.kind)) == [.layerDisks, .imageLease])
        ground.hypervisor.heal(.detach)
        #expect(await ground.release(ledger).isEmpty)
        #expect(ground.attached.isEmpty)
    }

    @Test func aMachineThatIsGoneHasNoDisks() async throws {
        let ground = try await Ground()
        let (first, second) = (ground.ledger("first"), ground.ledger("second"))
        for (id, ledger) in [("first", first), ("second", second)] {
            try await ground.disks.attach(Self.layers("a-" + id), for: id, ledger: ledger)
        }
        ground.hypervisor.end(ground.machine)
        #expect(await ground.release(first).isEmpty)
        ground.table.forget(ground.machine)
        #expect(await ground.release(second).isEmpty)
    }

    @Test func disksOfUnknownUsersStay() async throws {
        let ground = try await Ground(disks: ["old"])
        let ledger = ground.ledger("first")
        try await ground.disks.attach(Self.layers("old", "new"), for: "first", ledger: ledger)
        #expect(await ground.release(ledger).isEmpty)
        #expect(ground.attached == ["old"])
    }

    @Test func disksOfUnknownUsersStayAlsoWhenTheDaemonIsRestartedAgain() async throws {
        let ground = try await Ground(disks: ["old"])
        let ledger = ground.ledger("first")
        try await ground.disks.attach(Self.layers("old", "new"), for: "first", ledger: ledger)
        ground.table.forget(ground.machine)
        try await ground.disks.restore(ledger.all(.layerDisks, named: LayerDisks.name(ground.machine, "")))
        #expect(await ground.release(ledger).isEmpty)
        #expect(ground.attached == ["old"])
    }

    /// It did not say which of them were there before.
    @Test func whatAnEarlierDaemonMayHavePluggedInStaysWhenAnAttachFails() async throws {
        let ground = try await Ground(disks: ["old"])
        let ledger = ground.ledger("first")
        try ground.disks.restore([])
        ground.hypervisor.inject(.failAfterwards(.deadlineExceeded), at: .attach, times: 1)
        await #expect(throws: SwiftletError.self) {
            try await ground.disks.attach(Self.layers("old"), for: "first", ledger: ledger)
        }
        #expect(await ground.release(ledger).isEmpty)
        #expect(ground.attached == ["old"])
    }

    @Test(arguments: [RecordingHypervisor.Fault.fail(.internal), .failAfterwards(.deadlineExceeded)])
    func anAttachThatFailedLeavesNothing(fault: RecordingHypervisor.Fault) async throws {
        let ground = try await Ground()
        let ledger = ground.ledger("first")
        ground.hypervisor.inject(fault, at: .attach, times: 1)
        await #expect(throws: SwiftletError.self) {
            try await ground.disks.attach(Self.layers("a", "b"), for: "first", ledger: ledger)
        }
        #expect(await ground.release(ledger).isEmpty)
        #expect(ground.attached.isEmpty)
    }
}
