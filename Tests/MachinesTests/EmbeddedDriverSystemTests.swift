import Errors
import Foundation
import Linux
import Logging
import Machines
import Testing

/// The driver's directory goes when the last test of the suite has ended: the driver lives on between them.
struct EmbeddedDriverRoot: SuiteTrait, TestScoping {
    static let path = "/tmp/swiftlet-embed-\(getpid())"

    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        defer { try? FileManager.default.removeItem(atPath: Self.path) }
        try await function()
    }
}

/// Machines under QEMU's emulator through libvirt's embedded driver: no daemon needed. One driver per process, hence one
/// root for all tests and one test after the other.
@Suite(.serialized, .tags(.system), .enabled(if: SystemTestGround.isWanted), .timeLimit(.minutes(3)), EmbeddedDriverRoot())
struct EmbeddedDriverSystemTests {
    private static let root = EmbeddedDriverRoot.path

    private func withMachines(
        _ body: (LibvirtHypervisor, MachineRoom, (VMSpec) -> Void) async throws -> Void
    ) async throws {
        let hypervisor = try await LibvirtHypervisor.open(
            LibvirtConfiguration(connection: .embed(root: Self.root)), logger: SystemTestGround.logger)
        let room = try MachineRoom()
        var specs: [VMSpec] = []
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(hypervisor, room) { specs.append($0) })
        } catch {
            result = .failure(error)
        }
        await room.close(specs, hypervisor)
        await hypervisor.close()
        try result.get()
    }

    @Test func aMachineLivesFromStartToDestroy() async throws {
        try await withMachines { hypervisor, room, track in
            let layer = try room.disk("layer", readOnly: true)
            let scratch = try room.disk("scratch", readOnly: false)
            let first = try await room.spec("swl-first") { $0.disks = [scratch, layer] }
            let second = try await room.spec("swl-second") { $0.disks = [layer] }
            [first, second].forEach(track)
            let events = hypervisor.events()

            let process = try await hypervisor.start(first)
            #expect(process.isAlive)
            #expect(try await hypervisor.start(first) == process, "starting is idempotent")
            // The same kernel, initramfs and layer at once.
            let other = try await hypervisor.start(second)
            #expect(other != process)
            let domains = try await hypervisor.domains()
            #expect(Set(domains.map(\.name)) == ["swl-first", "swl-second"])
            #expect(
                domains.first { $0.uuid == first.uuid }
                    == DomainSummary(uuid: first.uuid, name: first.name, state: .running, process: process))

            try expectConfined(process)
            for file in [room.kernel, room.initramfs, layer.path] {
                #expect(try FileManager.default.attributesOfItem(atPath: file)[.ownerAccountID] as? Int == 0, "\(file) has a new owner")
            }
            try await room.waitForGreeting(first)

            try await hypervisor.destroy(uuid: first.uuid, process: process)
            #expect(!process.isAlive)
            #expect(other.isAlive)
            let stopped = await events.first { if case .stopped(first.uuid, _) = $0 { true } else { false } }
            #expect(stopped != nil)
            try await hypervisor.destroy(uuid: first.uuid, process: process)
            try await hypervisor.destroy(uuid: first.uuid, process: nil)
            #expect(try await hypervisor.domains().map(\.uuid) == [second.uuid])
        }
    }

    /// QEMU runs as its own user, without capabilities, with seccomp, in a mount namespace.
    private func expectConfined(_ process: ProcessIdentity) throws {
        let status = try String(contentsOfFile: "/proc/\(process.pid)/status", encoding: .utf8)
        #expect(status.contains("\nUid:\t64055\t64055\t64055\t64055\n"))
        #expect(status.contains("\nCapEff:\t0000000000000000\n"))
        #expect(status.contains("\nNoNewPrivs:\t1\n"))
        #expect(status.contains("\nSeccomp:\t2\n"))
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/mnt")
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process.pid)/ns/mnt") != own)
    }

    @Test func disksPlugAndUnplugBySerial() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await room.spec("swl-disks") { $0.disks = [] }
            track(spec)
            _ = try await hypervisor.start(spec)
            let disks = try (0..<20).map { try room.disk("d\($0)", readOnly: $0 % 2 == 0) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for disk in disks { group.addTask { try await hypervisor.attachDisk(disk, to: spec.uuid) } }
                try await group.waitForAll()
            }
            try await hypervisor.attachDisk(disks[3], to: spec.uuid)
            try await hypervisor.detachDisk(serial: "d3", from: spec.uuid)
            try await hypervisor.detachDisk(serial: "d3", from: spec.uuid)
            try await hypervisor.attachDisk(disks[3], to: spec.uuid)
            await #expect {
                try await hypervisor.attachDisk(DiskSpec(path: "/nonexistent", serial: "absent", readOnly: true), to: spec.uuid)
            } throws: {
                "\($0)".contains("/nonexistent")
            }
            for disk in disks { try await hypervisor.detachDisk(serial: disk.serial, from: spec.uuid) }
        }
    }

    @Test func aStoppedQEMUIsKilled() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await room.spec("swl-deaf")
            track(spec)
            let process = try await hypervisor.start(spec)
            try process.signal(SIGSTOP)
            try await hypervisor.destroy(uuid: spec.uuid, process: process)
            #expect(!process.isAlive)
            #expect(try await hypervisor.domains().isEmpty)
        }
    }

    @Test func aGuestThatPowersOffOrPanicsIsReported() async throws {
        try await withMachines { hypervisor, room, track in
            let off = try await room.spec("swl-off") { $0.kernelArguments.append("test.poweroff") }
            let panic = try await room.spec("swl-panic") { $0.kernelArguments.append("test.panic") }
            [off, panic].forEach(track)
            for spec in [off, panic] {
                let events = hypervisor.events()
                let process = try await hypervisor.start(spec)
                let end = await events.first {
                    switch $0 {
                    case .stopped(spec.uuid, _), .crashed(spec.uuid): true
                    default: false
                    }
                }
                #expect(end != nil)
                #expect(process.waitForExit(.seconds(10)))
            }
        }
    }

    @Test func whatCannotStartLeavesNothing() async throws {
        try await withMachines { hypervisor, room, track in
            let noDisk = try await room.spec("swl-nodisk") { $0.disks = [DiskSpec(path: "/nonexistent.img", serial: "a", readOnly: true)] }
            let noSocket = try await room.spec("swl-nosocket") { $0.vsock = .vhostUser(socket: "/tmp/swiftlet-nobody-listens", cid: 3) }
            for spec in [noDisk, noSocket] {
                track(spec)
                await #expect {
                    _ = try await hypervisor.start(spec)
                } throws: { error in
                    "\(error)".contains(spec.name) && ["/nonexistent.img", "swiftlet-nobody-listens"].contains { "\(error)".contains($0) }
                }
            }
            #expect(try await hypervisor.domains().isEmpty)
        }
    }

    @Test func machinesOutliveTheDriverAndAreFoundAgain() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await room.spec("swl-survivor")
            track(spec)
            let process = try await hypervisor.start(spec)
            await hypervisor.close()
            #expect(process.isAlive)
            let again = try await LibvirtHypervisor.open(
                LibvirtConfiguration(connection: .embed(root: Self.root)), logger: SystemTestGround.logger)
            #expect(try await again.domains().map(\.process) == [process])
            #expect(try await again.start(spec) == process)
            try await again.destroy(uuid: spec.uuid, process: process)
            await again.close()
        }
    }
}
