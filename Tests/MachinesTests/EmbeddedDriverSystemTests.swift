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

    func withMachines(
        _ body: (LibvirtHypervisor, MachineRoom, (MachineSpec) -> Void) async throws -> Void
    ) async throws {
        let hypervisor = try await LibvirtHypervisor.open(
            LibvirtConfiguration(connection: .embed(root: Self.root)), logger: SystemTestGround.logger)
        let room = try MachineRoom()
        var specs: [MachineSpec] = []
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
            let first = try await room.spec("swl-first") { $0.add([scratch, layer]) }
            let second = try await room.spec("swl-second") { $0.add([layer]) }
            [first, second].forEach(track)
            let events = hypervisor.events()

            let process = try #require(try await hypervisor.start(first).process)
            #expect(process.isAlive)
            #expect(try await hypervisor.start(first).process == process, "starting is idempotent")
            // The same kernel, initramfs and layer at once.
            let other = try #require(try await hypervisor.start(second).process)
            #expect(other != process)
            let machines = try await hypervisor.machines()
            #expect(Set(machines.map(\.name)) == ["swl-first", "swl-second"])
            #expect(
                machines.first { $0.id == first.id }
                    == Machine(id: first.id, name: first.name, state: .running, process: process))

            try expectConfined(process)
            for file in [room.kernel, room.initramfs, layer.path] {
                #expect(try FileManager.default.attributesOfItem(atPath: file)[.ownerAccountID] as? Int == 0, "\(file) has a new owner")
            }
            try await room.waitForGreeting(first)

            try await hypervisor.destroy(first.id, process: process)
            #expect(!process.isAlive)
            #expect(other.isAlive)
            let stopped = await events.first { if case .stopped(first.id, _) = $0 { true } else { false } }
            #expect(stopped != nil)
            try await hypervisor.destroy(first.id, process: process)
            try await hypervisor.destroy(first.id, process: nil)
            #expect(try await hypervisor.machines().map(\.id) == [second.id])
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
            let spec = try await room.spec("swl-disks")
            track(spec)
            _ = try await hypervisor.start(spec)
            let disks = try (0..<20).map { try room.disk("d\($0)", readOnly: $0 % 2 == 0) }
            let added = try await hypervisor.attach(disks[..<12].map { .disk($0) }, to: spec.id)
            let serials: [DeviceID] = disks.map { .disk(serial: $0.serial) }
            #expect(added == Array(serials[..<12]))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for disk in disks[12...] { group.addTask { _ = try await hypervisor.attach([.disk(disk)], to: spec.id) } }
                try await group.waitForAll()
            }
            #expect(try await hypervisor.attach([.disk(disks[3])], to: spec.id).isEmpty)
            for _ in 0..<2 { try await hypervisor.detach([.disk(serial: "d3")], from: spec.id) }
            #expect(try await hypervisor.attach([.disk(disks[3])], to: spec.id) == [.disk(serial: "d3")])
            await #expect {
                let absent = DiskSpec(path: "/nonexistent", serial: "absent", readOnly: true)
                try await hypervisor.attach([.disk(disks[4]), .disk(absent)], to: spec.id)
            } throws: {
                "\($0)".contains("/nonexistent")
            }
            await #expect(throws: SwiftletError.self) { try await hypervisor.attach([.balloon], to: spec.id) }
            try await hypervisor.detach(serials, from: spec.id)
        }
    }

    /// How far the guest of `test.count` has counted.
    private func count(_ room: MachineRoom, _ spec: MachineSpec) -> Int {
        room.console(spec).split(whereSeparator: \.isNewline).last { $0.hasPrefix("COUNT ") && $0.count > 6 }
            .flatMap { Int($0.dropFirst(6)) } ?? 0
    }

    @Test func aMachineIsPausedSavedAndRestored() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await room.spec("swl-saved") { $0.kernelArguments.append("test.count") }
            track(spec)
            let process = try #require(try await hypervisor.start(spec).process)
            try await eventually("the guest counts") { count(room, spec) > 1 }
            for _ in 0..<2 { try await hypervisor.pause(spec.id) }
            #expect(try await hypervisor.machine(spec.id)?.state == .paused)
            for _ in 0..<2 { try await hypervisor.resume(spec.id) }
            let paused = count(room, spec)
            try await eventually("the guest goes on") { count(room, spec) > paused }

            let file = "\(room.directory)/saved"
            await #expect {
                _ = try await hypervisor.save(spec.id, to: file)
            } throws: {
                ($0 as? SwiftletError)?.code == .failedPrecondition
            }
            #expect(process.isAlive)
            for _ in 0..<2 { try await hypervisor.detach([.vsock], from: spec.id) }
            let events = hypervisor.events()
            let before = count(room, spec)
            let saved = try await hypervisor.save(spec.id, to: file)
            #expect(await events.first { if case .stopped(spec.id, _) = $0 { true } else { false } } != nil)
            #expect(process.waitForExit(.seconds(10)))
            #expect(try await hypervisor.machine(spec.id) == nil)

            let machine = try await hypervisor.restore(saved)
            #expect(machine.id == spec.id && machine.process?.isAlive == true)
            try await eventually("the guest counts where it was") { count(room, spec) > before }
            #expect(count(room, spec) < before + 100 && !room.console(spec).contains("COUNT 1\n" + "COUNT 1\n"))
            await #expect(throws: SwiftletError.self) { _ = try await hypervisor.restore(saved) }

            // The device comes back by a backend of its own; the old one has ended with QEMU.
            let vsock = try await room.vsock("swl-saved-again")
            #expect(try await hypervisor.attach([vsock], to: spec.id) == [.vsock])
            #expect(try await hypervisor.attach([vsock], to: spec.id).isEmpty)
            let disk = try room.disk("late", readOnly: true)
            #expect(try await hypervisor.attach([.disk(disk)], to: spec.id) == [.disk(serial: "late")])
        }
    }

    @Test func aGuestThatWritesToItsConsoleForEverIsHeldToTheLimit() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await room.spec("swl-flood") { $0.kernelArguments.append("test.flood") }
            track(spec)
            let path = try #require(spec.console?.log)
            let logs = ConsoleLogs(interval: .milliseconds(50), logger: SystemTestGround.logger)
            logs.watch(path, of: spec.id)
            let process = try #require(try await hypervisor.start(spec).process)
            var (cuts, last) = (0, 0)
            try await eventually("the console was cut twice") {
                let size = (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
                #expect(size < 2 * ConsoleLogs.limit)
                if size < last { cuts += 1 }
                last = size
                return cuts >= 2
            }
            #expect(process.isAlive)
            withExtendedLifetime(logs) {}
        }
    }

    @Test func aStoppedQEMUIsKilled() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await room.spec("swl-deaf")
            track(spec)
            let process = try #require(try await hypervisor.start(spec).process)
            try process.signal(SIGSTOP)
            try await hypervisor.destroy(spec.id, process: process)
            #expect(!process.isAlive)
            #expect(try await hypervisor.machines().isEmpty)
            for stopped in [false, true] { try await Self.killAtOnce(stopped, hypervisor, room, track) }
        }
    }

    /// It is gone for libvirt too. No test of its own: libvirt takes a driver that is opened often for too many.
    private static func killAtOnce(
        _ stopped: Bool, _ hypervisor: LibvirtHypervisor, _ room: MachineRoom, _ track: (MachineSpec) -> Void
    ) async throws {
        let spec = try await room.spec("swl-killed")
        track(spec)
        let events = hypervisor.events()
        let process = try #require(try await hypervisor.start(spec).process)
        if stopped { try process.signal(SIGSTOP) } else { try await room.waitForGreeting(spec) }
        try await hypervisor.destroy(spec.id, process: process, atOnce: true)
        #expect(!process.isAlive)
        #expect(try await hypervisor.machines().isEmpty)
        let ended = await events.first { if case .stopped(spec.id, _) = $0 { true } else { false } }
        #expect(ended != nil)
        // Its name is free.
        try await hypervisor.destroy(spec.id, process: process, atOnce: true)
    }

    @Test func aGuestThatPowersOffOrPanicsIsReported() async throws {
        try await withMachines { hypervisor, room, track in
            let off = try await room.spec("swl-off") { $0.kernelArguments.append("test.poweroff") }
            let panic = try await room.spec("swl-panic") { $0.kernelArguments.append("test.panic") }
            [off, panic].forEach(track)
            for spec in [off, panic] {
                let events = hypervisor.events()
                let process = try #require(try await hypervisor.start(spec).process)
                let end = await events.first { if case .stopped(spec.id, _) = $0 { true } else { false } }
                // A kernel without a panic device resets.
                #expect(end == .stopped(spec.id, spec == off ? .poweredOff : .reset))
                #expect(process.waitForExit(.seconds(10)))
            }
        }
    }

    @Test func whatCannotStartLeavesNothing() async throws {
        try await withMachines { hypervisor, room, track in
            let noDisk = try await room.spec("swl-nodisk") {
                $0.add([DiskSpec(path: "/nonexistent.img", serial: "a", readOnly: true)])
            }
            let noSocket = try await room.spec("swl-nosocket") {
                $0.set(.vsock(.vhostUser(socket: "/tmp/swiftlet-nobody-listens", cid: 3)))
            }
            for spec in [noDisk, noSocket] {
                track(spec)
                await #expect {
                    _ = try await hypervisor.start(spec)
                } throws: { error in
                    "\(error)".contains(spec.name) && ["/nonexistent.img", "swiftlet-nobody-listens"].contains { "\(error)".contains($0) }
                }
            }
            #expect(try await hypervisor.machines().isEmpty)
        }
    }

    @Test func machinesOutliveTheDriverAndAreFoundAgain() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await room.spec("swl-survivor")
            track(spec)
            let process = try #require(try await hypervisor.start(spec).process)
            await hypervisor.close()
            #expect(process.isAlive)
            let again = try await LibvirtHypervisor.open(
                LibvirtConfiguration(connection: .embed(root: Self.root)), logger: SystemTestGround.logger)
            #expect(try await again.machines().map(\.process) == [process])
            #expect(try await again.start(spec).process == process)
            try await again.destroy(spec.id, process: process)
            await again.close()
        }
    }
}
