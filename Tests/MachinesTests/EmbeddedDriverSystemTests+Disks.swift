import CLinux
import Errors
import Foundation
import GuestHardware
import Linux
import Machines
import Testing

/// Machines that boot from a disk, whose guest is a boot sector.
extension EmbeddedDriverSystemTests {
    /// A machine that boots an overlay of the boot sector's disk.
    private func bootable(
        _ name: String, in room: MachineRoom, bus: DiskSpec.Bus = .scsi, format: DiskSpec.Format = .raw, reboot: RebootPolicy = .exit
    ) async throws -> MachineSpec {
        let base = "\(room.directory)/base.\(format)"
        if !FileManager.default.fileExists(atPath: base) {
            let raw = "\(room.directory)/base.raw"
            try BootSector.write(to: raw, mebibytes: 4)
            if format == .qcow2 {
                try await Spawn("/usr/bin/qemu-img", ["convert", "-q", "-f", "raw", "-O", "qcow2", "-c", raw, base]).check()
            }
        }
        let user = try MachineUser(uid: MachineRoom.users.ids.lowerBound, gid: MachineUser.shared().gid)
        let backing = DiskSpec.Backing(path: base, format: format)
        let overlay = "\(room.directory)/\(name).qcow2"
        try await OverlayDisk().create(overlay, on: OverlayDisk.Base(file: backing, virtualSize: 4 << 20), size: 8 << 20, owner: user)
        // Where QEMU makes its sockets.
        let sockets = "\(room.directory)/\(name)"
        try FileManager.default.createDirectory(atPath: sockets, withIntermediateDirectories: true)
        chown(sockets, user.uid, user.gid)
        let seed = try room.disk("seed-\(name)", readOnly: true)
        return MachineSpec(
            id: .random(), name: name, shape: MachineShape(memoryBytes: 64 << 20, vcpus: 1, accelerator: .tcg), boot: .disk,
            devices: [
                .disk(
                    DiskSpec(
                        path: overlay, serial: "root", readOnly: false, format: .qcow2, ephemeral: true, bus: bus, backing: backing,
                        bootOrder: 1)),
                .disk(DiskSpec(path: seed.path, serial: "seed", readOnly: true, bus: .virtio)),
                .console(ConsoleSpec(log: "\(room.directory)/\(name).console", socket: "\(room.directory)/\(name).serial")),
                .channel(ChannelSpec(socket: "\(sockets)/agent")), .random, .balloon, .panic,
            ], user: user, reboot: reboot,
            identity: SystemIdentity(uuid: UUID(), serialNumber: "S1", strings: ["io.systemd.credential:a=b,c"]))
    }

    /// A client of the serial console types, and stays until `body` has returned: what the guest has not read is lost with its client.
    private func typing(_ text: String, to spec: MachineSpec, _ body: () async throws -> Void) async throws {
        let socket = clinux_unix_socket()
        defer { close(socket) }
        let path = try #require(spec.console?.socket)
        #expect(clinux_unix_connect(socket, path) == 0)
        #expect(send(socket, text, text.utf8.count, Int32(MSG_NOSIGNAL)) == text.utf8.count)
        try await body()
    }

    @Test(arguments: [(DiskSpec.Bus.scsi, DiskSpec.Format.qcow2), (.virtio, .raw), (.sata, .raw)])
    func aMachineBootsAnOverlayAndItsConsoleIsReadAndWritten(bus: DiskSpec.Bus, format: DiskSpec.Format) async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await bootable("swl-disk-\(bus)", in: room, bus: bus, format: format)
            track(spec)
            let process = try #require(try await hypervisor.start(spec).process)
            try await eventually("the disk boots") { room.console(spec).contains(BootSector.greeting) }
            // One client after the other.
            for text in ["xyz", "uvw"] {
                try await typing(text, to: spec) { try await eventually("the console answers") { room.console(spec).contains(text) } }
            }

            let arguments = try #require(ProcessTable.arguments(of: process.pid)).joined(separator: " ")
            #expect(arguments.contains("-uuid \(spec.id)"))
            #expect(FileManager.default.fileExists(atPath: spec.channels[0].socket))
            // A stranger's file stays a stranger's.
            #expect(try FileManager.default.attributesOfItem(atPath: "\(room.directory)/base.\(format)")[.ownerAccountID] as? Int == 0)

            // Volumes come and go by either bus that plugs.
            let late = try room.disk("late", readOnly: true)
            #expect(try await hypervisor.attach([.disk(late)], to: spec.id) == [.disk(serial: "late")])
            try await hypervisor.detach([.disk(serial: "late")], from: spec.id)
            var virtio = late
            virtio.bus = .virtio
            #expect(try await hypervisor.attach([.disk(virtio)], to: spec.id) == [.disk(serial: "late")])

            try await typing("p", to: spec) { #expect(process.waitForExit(.seconds(10))) }
            try await eventually("libvirt knows") { try await hypervisor.machine(spec.id) == nil }
        }
    }

    /// How a machine ends, and what libvirt's log says afterwards.
    @Test func howAMachineEndsIsToldAndCanBeReadAfterwards() async throws {
        try await withMachines { hypervisor, room, track in
            let cases: [(name: String, key: String, end: MachineEnd, last: MachineEnd)] = [
                ("off", "p", .poweredOff, .poweredOff), ("reset", "r", .reset, .poweredOff), ("panic", "c", .panicked, .panicked),
                ("kill", "", .failed(lastWords: ""), .failed(lastWords: "")), ("destroy", "", .destroyed, .destroyed),
            ]
            for (name, key, end, last) in cases {
                let spec = try await bootable("swl-end-\(name)", in: room)
                track(spec)
                let events = hypervisor.events()
                let process = try #require(try await hypervisor.start(spec).process)
                #expect(await hypervisor.lastEnd(ofMachineNamed: spec.name) == nil)
                try await eventually("the disk boots") { room.console(spec).contains(BootSector.greeting) }
                switch name {
                case "kill": process.kill()
                case "destroy": try await hypervisor.destroy(spec.id, process: process)
                default: try await typing(key, to: spec) { #expect(process.waitForExit(.seconds(10))) }
                }
                let told = await events.first { if case .stopped(spec.id, _) = $0 { true } else { false } }
                #expect(told == .stopped(spec.id, end))
                try await eventually("libvirt knows") { try await hypervisor.machine(spec.id) == nil }
                // QEMU's last line may come after libvirt's.
                try await eventually("the log tells") { await hypervisor.lastEnd(ofMachineNamed: spec.name) == last }
            }
            #expect(await hypervisor.lastEnd(ofMachineNamed: "swl-never") == nil)
        }
    }

    @Test func aQEMUThatSomebodyEndsTellsItsLastWords() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await bootable("swl-words", in: room)
            track(spec)
            let events = hypervisor.events()
            let process = try #require(try await hypervisor.start(spec).process)
            try await eventually("the disk boots") { room.console(spec).contains(BootSector.greeting) }
            try process.signal(SIGTERM)
            let end = await events.first { if case .stopped(spec.id, _) = $0 { true } else { false } }
            guard case .stopped(_, .failed(let words)) = end else {
                Issue.record("\(String(describing: end))")
                return
            }
            #expect(words.contains("terminating on signal 15"))
        }
    }

    @Test func aMachineWhoseGuestRebootsOrThatIsResetBootsAgain() async throws {
        try await withMachines { hypervisor, room, track in
            let spec = try await bootable("swl-reboot", in: room, reboot: .restart)
            track(spec)
            let events = hypervisor.events()
            let process = try #require(try await hypervisor.start(spec).process)
            func boots() -> Int { room.console(spec).ranges(of: BootSector.greeting).count }
            try await eventually("the disk boots") { boots() == 1 }
            try await typing("r", to: spec) { try await eventually("the disk boots again") { boots() == 2 } }
            #expect(await events.first { $0 == .rebooted(spec.id) } != nil)
            try await hypervisor.reset(spec.id)
            try await eventually("the disk boots a third time") { boots() == 3 }
            // It does not listen to its power button.
            try await hypervisor.shutdown(spec.id)
            #expect(process.isAlive)

            let before = try await hypervisor.statistics(spec.id)
            #expect(before.cpuNanoseconds > 0 && before.residentBytes > 8 << 20)
            #expect(before.disks.keys.sorted() == ["root", "seed"] && before.disks["root"]?.capacity == 8 << 20)
            #expect((before.disks["root"]?.readRequests ?? 0) > 0)
            try await hypervisor.resizeDisk("root", of: spec.id, to: 16 << 20)
            try await hypervisor.resizeDisk("root", of: spec.id, to: 16 << 20)
            #expect(try await hypervisor.statistics(spec.id).disks["root"]?.capacity == 16 << 20)
            await #expect {
                try await hypervisor.resizeDisk("root", of: spec.id, to: 8 << 20)
            } throws: {
                ($0 as? SwiftletError)?.code == .invalidArgument && "\($0)".contains("16777216") && "\($0)".contains("8388608")
            }
            await #expect {
                try await hypervisor.resizeDisk("seed", of: spec.id, to: 64 << 20)
            } throws: {
                ($0 as? SwiftletError)?.code == .failedPrecondition
            }
            await #expect {
                _ = try await hypervisor.screenshot(spec.id)
            } throws: {
                ($0 as? SwiftletError)?.code == .failedPrecondition
            }
            #expect(try await hypervisor.domainXML(spec.id).contains("<name>swl-reboot</name>"))
            try await hypervisor.destroy(spec.id, process: process)
        }
    }

    /// UEFI's shell or its boot manager speaks on the serial port; a watchdog, a display and a processor are there.
    @Test func aMachineHasTheOptionsItAsksFor() async throws {
        try await withMachines { hypervisor, room, track in
            var plain = try await bootable("swl-options", in: room)
            let user = try #require(plain.user)
            let (sockets, variables) = ("\(room.directory)/swl-options", "\(room.directory)/swl-options.vars")
            let firmware = UEFIFirmware()
            try await firmware.makeVariables(variables, keep: false, owner: user)
            plain.boot = .firmware(code: firmware.code, variables: variables)
            plain.shape.memoryBytes = 128 << 20
            plain.processor = ProcessorSpec(model: .named("Westmere"), features: [.init("avx", .disable)])
            plain.devices += [.watchdog(.poweroff), .display(DisplaySpec(vncSocket: "\(sockets)/vnc"))]
            let swtpm = TPMEmulator()
            let hasTPM = swtpm.obstacle() == nil
            if hasTPM {
                try await swtpm.start(socket: "\(sockets)/tpm", state: .directory("\(room.directory)/tpm"), user: user)
                plain.devices.append(.tpm(TPMSpec(socket: "\(sockets)/tpm")))
            }
            let spec = plain
            track(spec)
            let process = try #require(try await hypervisor.start(spec).process)
            try await eventually("UEFI speaks") { room.console(spec).contains("BdsDxe") }
            let arguments = try #require(ProcessTable.arguments(of: process.pid)).joined(separator: " ")
            #expect(arguments.contains("Westmere") && arguments.contains("i6300esb") && arguments.contains(variables))

            let picture = try await hypervisor.screenshot(spec.id)
            #expect(picture.count > 100 && picture.starts(with: [0x89, 0x50, 0x4E, 0x47]))
            let client = clinux_unix_socket()
            defer { close(client) }
            #expect(clinux_unix_connect(client, "\(sockets)/vnc") == 0)
            var greeting = [UInt8](repeating: 0, count: 12)
            try await eventually("VNC greets") { recv(client, &greeting, greeting.count, 0) == greeting.count }
            #expect(String(decoding: greeting, as: UTF8.self) == "RFB 003.008\n")
            if hasTPM { #expect(FileManager.default.fileExists(atPath: "\(room.directory)/tpm/tpm2-00.permall")) }
            try await hypervisor.destroy(spec.id, process: process)
            // It ends with QEMU.
            try await eventually("the TPM has ended") {
                ProcessTable.all(of: [user.uid]) { $0.contains("type=unixio,path=\(sockets)/tpm,mode=0600") }.isEmpty
            }
        }
    }
}
