import Errors
import Foundation
import Testing

@testable import Machines

/// Domains as they are to be. `SWIFTLET_WRITE_GOLDEN=1` writes the files anew, to be compared by whoever reviews.
struct DomainGoldenTests {
    private static let host = HostProfile(dacLabel: "+64055:+108")

    private static let kinds: [String: MachineSpec] = {
        let minimal = MachineSpec.minimal()
        var full = minimal
        full.name = "swiftlet-full"
        full.shape.vcpus = 2
        full.shape.memoryBytes = (256 << 20) + 1
        full.set(.interface(InterfaceSpec(tap: "swl0123456789a", mac: "02:53:57:4c:00:01", mtu: 1450)))
        full.add([
            DiskSpec(path: "/var/lib/swiftlet/scratch/a.img", serial: "scratch", readOnly: false, ephemeral: true),
            DiskSpec(path: "/var/lib/swiftlet/layers/sha256-0a.erofs", serial: "layer-0a", readOnly: true),
            DiskSpec(path: "/var/lib/swiftlet/volumes/b.qcow2", serial: "volume-b", readOnly: false, format: .qcow2),
        ])
        var kernelVsock = minimal
        kernelVsock.name = "swiftlet-kernel-vsock"
        kernelVsock.set(.vsock(.kernel(cid: 17)))
        var kvm = full
        kvm.name = "swiftlet-kvm"
        kvm.shape.accelerator = .kvm
        var disk = minimal
        disk.name = "swiftlet-disk"
        disk.boot = .disk
        disk.devices = [.disk(DiskSpec(path: "/var/lib/swiftlet/roots/a.qcow2", serial: "root", readOnly: false, format: .qcow2))]
        var firmware = disk
        firmware.name = "swiftlet-firmware"
        firmware.boot = .firmware(code: "/usr/share/OVMF/OVMF_CODE_4M.fd", variables: "/var/lib/swiftlet/roots/a.vars")
        let vm = Self.virtualMachine
        var manyDisks = vm
        manyDisks.name = "swiftlet-vm-many-disks"
        manyDisks.set(.interface(InterfaceSpec(tap: "swl0123456789b", mac: "02:53:57:4c:00:02", bootROM: true, bootOrder: 2)))
        manyDisks.add(
            (0..<8).map { DiskSpec(path: "/dev/v\($0)", serial: "v\($0)", readOnly: false, bus: .virtio, medium: .blockDevice) }
                + (0..<2).map { DiskSpec(path: "/s\($0).img", serial: "s\($0)", readOnly: false, bus: .sata) })
        var options = vm
        options.name = "swiftlet-vm-options"
        options.boot = .firmware(code: "/usr/share/OVMF/OVMF_CODE_4M.fd", variables: "/var/lib/swiftlet/roots/a.vars")
        options.processor = ProcessorSpec(
            model: .named("Westmere"), features: [.init("avx", .disable), .init("vmx", .optional), .init("erms", .optional)],
            topology: .init(sockets: 1, cores: 2, threads: 1))
        options.devices += [
            .watchdog(.poweroff), .tpm(TPMSpec(socket: "/run/swiftlet/pods/a/vm/t,pm")),
            .display(DisplaySpec(vncSocket: "/run/swiftlet/pods/a/vm/vnc")),
        ]
        var virgl = vm
        virgl.name = "swiftlet-vm-virgl"
        virgl.shape.hugePages = true
        virgl.shape.memoryBytes = 511 << 20
        virgl.shape.accelerator = .kvm
        virgl.processor.model = .hostModel
        virgl.devices.append(.display(DisplaySpec(vncSocket: "/run/swiftlet/pods/a/vm/vnc", renderNode: "/dev/dri/renderD128")))
        return [
            "vm-options": options, "vm-virgl": virgl, "vm": vm, "vm-many-disks": manyDisks,
            "tcg-minimal": minimal, "tcg-tap-and-disks": full, "kernel-vsock": kernelVsock, "kvm": kvm, "disk": disk, "firmware": firmware,
        ]
    }()

    /// What a pod of the handler `vm` is made of.
    private static let virtualMachine = MachineSpec(
        id: .example, name: "swiftlet-vm", shape: MachineShape(memoryBytes: 512 << 20, vcpus: 2, accelerator: .tcg), boot: .disk,
        devices: [
            .disk(
                DiskSpec(
                    path: "/var/lib/swiftlet/roots/a.qcow2", serial: "root", readOnly: false, format: .qcow2, ephemeral: true,
                    backing: DiskSpec.Backing(path: "/var/lib/swiftlet/disks/sha256-0a.qcow2", format: .qcow2), bootOrder: 1)),
            .disk(DiskSpec(path: "/var/lib/swiftlet/seeds/a.iso", serial: "seed", readOnly: true, bus: .virtio)),
            .disk(DiskSpec(path: "/var/lib/swiftlet/nodes/a-data", serial: "data", readOnly: false, medium: .blockDevice)),
            .interface(InterfaceSpec(tap: "swl0123456789a", mac: "02:53:57:4c:00:01", mtu: 1450)),
            .console(ConsoleSpec(log: "/run/swiftlet/pods/a/console.log", socket: "/run/swiftlet/pods/a/console.sock")),
            .channel(ChannelSpec(socket: "/run/swiftlet/pods/a/vm/agent,sock")), .random, .balloon, .panic,
        ], user: MachineUser(uid: 2_000_000_001, gid: 108), reboot: .restart,
        identity: SystemIdentity(
            uuid: UUID(uuidString: "11111111-2222-3333-4444-555555555555"), serialNumber: "SN-1",
            strings: ["io.systemd.credential:ssh.authorized_keys.root=ssh-ed25519 AAAA"]))

    @Test(arguments: kinds.keys.sorted())
    func domainIsAsReviewed(kind: String) throws {
        let spec = try #require(Self.kinds[kind])
        let xml = try DomainBlueprint(host: Self.host).xml(spec)
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/\(kind).xml")
        if ProcessInfo.processInfo.environment["SWIFTLET_WRITE_GOLDEN"] == "1" { try Data(xml.utf8).write(to: file) }
        let golden = try String(contentsOf: file, encoding: .utf8)
        #expect(xml == golden)
    }

    @Test func theOrderOfDevicesOfDifferentKindsDoesNotMatter() throws {
        var spec = try #require(Self.kinds["tcg-tap-and-disks"])
        let xml = try DomainBlueprint(host: Self.host).xml(spec)
        spec.devices =
            spec.devices.filter { if case .disk = $0 { true } else { false } }
            + spec.devices.filter { if case .disk = $0 { false } else { true } }.reversed()
        #expect(try DomainBlueprint(host: Self.host).xml(spec) == xml)
    }

    @Test func hostileNamesNeverReachTheDocument() throws {
        func expectRefused(_ change: (inout MachineSpec) -> Void, sourceLocation: SourceLocation = #_sourceLocation) {
            var spec = MachineSpec.minimal()
            change(&spec)
            #expect(sourceLocation: sourceLocation) {
                try DomainBlueprint().xml(spec)
            } throws: {
                ($0 as? SwiftletError)?.code == .invalidArgument
            }
        }
        for name in ["", "../etc", "a/b", "a b", "a'b", "a\0b", "-a", ".", String(repeating: "a", count: 10_000)] {
            expectRefused { $0.name = name }
            expectRefused { $0.add([DiskSpec(path: "/a", serial: name, readOnly: true)]) }
            expectRefused { $0.set(.interface(InterfaceSpec(tap: name, mac: "02:00:00:00:00:01"))) }
            expectRefused { $0.set(.filesystem(FilesystemSpec(tag: name, socket: "/a"))) }
        }
        for path in ["", "relative", "/a\nb", "/a\0b", "/" + String(repeating: "a", count: 5000)] {
            expectRefused { $0.kernel = path }
            expectRefused { $0.boot = .firmware(code: path, variables: "/a") }
            expectRefused { $0.boot = .firmware(code: "/a", variables: path) }
            expectRefused { $0.set(.console(ConsoleSpec(log: path))) }
            expectRefused { $0.add([DiskSpec(path: path, serial: "a", readOnly: true)]) }
            expectRefused { $0.set(.vsock(.vhostUser(socket: path, cid: 3))) }
        }
        expectRefused { $0.set(.vsock(.vhostUser(socket: "/" + String(repeating: "a", count: 107), cid: 3))) }
        expectRefused { $0.set(.vsock(.kernel(cid: 2))) }
        expectRefused { $0.set(.vsock(.kernel(cid: .max))) }
        expectRefused { $0.kernelArguments = ["quiet\ninit=/bin/sh"] }
        expectRefused { $0.kernelArguments = [String(repeating: "a", count: 2048)] }
        expectRefused { $0.set(.interface(InterfaceSpec(tap: "a", mac: "01:00:00:00:00:01"))) }
        expectRefused { $0.set(.interface(InterfaceSpec(tap: "a", mac: "02:00:00:00:00:0g"))) }
        expectRefused { $0.set(.interface(InterfaceSpec(tap: "a", mac: "02:00:00:00:00:01", mtu: 0))) }
        expectRefused { $0.shape.memoryBytes = 1 }
        expectRefused { $0.shape.memoryBytes = .max }
        expectRefused { $0.shape.vcpus = 0 }
        expectRefused { $0.boot = .disk }
        expectRefused { $0.add((0..<257).map { DiskSpec(path: "/a", serial: "s\($0)", readOnly: true) }) }
        expectRefused { $0.add((0..<2).map { _ in DiskSpec(path: "/a", serial: "same", readOnly: true) }) }
        expectRefused { $0.devices += (0..<33).map { .filesystem(FilesystemSpec(tag: "t\($0)", socket: "/a")) } }
        expectRefused { $0.devices.append(.balloon) }
    }

    @Test func whatAMachineWithADiskCannotHaveIsRefused() throws {
        func expectRefused(_ words: String, _ change: (inout MachineSpec) -> Void, sourceLocation: SourceLocation = #_sourceLocation) {
            var spec = Self.virtualMachine
            change(&spec)
            #expect(sourceLocation: sourceLocation) {
                try spec.validate()
            } throws: {
                ($0 as? SwiftletError)?.code == .invalidArgument && "\($0)".contains(words)
            }
        }
        func disk(_ name: String, _ change: (inout DiskSpec) -> Void) -> MachineDevice {
            var disk = DiskSpec(path: "/a", serial: name, readOnly: false)
            change(&disk)
            return .disk(disk)
        }
        try Self.virtualMachine.validate()
        expectRefused("1 to 20 letters") { $0.devices.append(disk(String(repeating: "a", count: 21)) { $0.bus = .virtio }) }
        expectRefused("1 to 20 letters") { $0.devices.append(disk(String(repeating: "a", count: 21)) { $0.bus = .sata }) }
        expectRefused("SATA") { $0.devices.append(disk("a") { ($0.bus, $0.readOnly) = (.sata, true) }) }
        expectRefused("raw") { $0.devices.append(disk("a") { ($0.medium, $0.format) = (.blockDevice, .qcow2) }) }
        expectRefused("only a qcow2 disk") { $0.devices.append(disk("a") { $0.backing = .init(path: "/b", format: .raw) }) }
        expectRefused("absolute path") {
            $0.devices.append(disk("a") { ($0.format, $0.backing) = (.qcow2, .init(path: "json:{}", format: .raw)) })
        }
        expectRefused("boot position 0") { $0.devices.append(disk("a") { $0.bootOrder = 0 }) }
        expectRefused("same position") { $0.devices.append(disk("a") { $0.bootOrder = 1 }) }
        expectRefused("needs a boot ROM") { $0.set(.interface(InterfaceSpec(tap: "t", mac: "02:00:00:00:00:01", bootOrder: 2))) }
        expectRefused("no boot order") { $0.boot = .kernel(path: "/k", initramfs: "/i", arguments: []) }
        expectRefused("21 virtio disks") { for number in 0..<20 { $0.devices.append(disk("v\(number)") { $0.bus = .virtio }) } }
        expectRefused("7 sata disks") { for number in 0..<7 { $0.devices.append(disk("v\(number)") { $0.bus = .sata }) } }
        expectRefused("channel name") { $0.set(.channel(ChannelSpec(name: "a\"b", socket: "/a"))) }
        expectRefused("longer than 107") { $0.set(.channel(ChannelSpec(socket: "/" + String(repeating: "a", count: 107)))) }
        expectRefused("longer than 107") { $0.set(.console(ConsoleSpec(log: "/a", socket: "/" + String(repeating: "a", count: 107)))) }
        expectRefused("channels") { spec in spec.devices += (0..<30).map { .channel(ChannelSpec(name: "c\($0)", socket: "/a")) } }
        expectRefused("serial number") { $0.identity.serialNumber = "" }
        expectRefused("serial number") { $0.identity.serialNumber = "a\nb" }
        expectRefused("OEM string") { $0.identity.strings = ["a\0"] }
        expectRefused("OEM string") { $0.identity.strings = [String(repeating: "a", count: 40_000)] }
        expectRefused("OEM strings") { $0.identity.strings = Array(repeating: "a", count: 33) }
        expectRefused("two devices") { $0.devices.append(.panic) }
        expectRefused("two devices") { $0.devices += [.watchdog(.reset), .watchdog(.pause)] }
        expectRefused("longer than 107") { spec in
            spec.devices.append(.display(DisplaySpec(vncSocket: "/" + String(repeating: "a", count: 107))))
        }
        expectRefused("longer than 107") { spec in spec.devices.append(.tpm(TPMSpec(socket: "/" + String(repeating: "a", count: 107)))) }
        expectRefused("absolute path") { $0.devices.append(.display(DisplaySpec(renderNode: "renderD128"))) }
        for name in ["", "a b", "a'/><x", "-a", "+avx,host-phys-bits=on", String(repeating: "a", count: 49)] {
            expectRefused("not a feature") { $0.processor.features = [.init(name, .require)] }
            expectRefused("not a model") { $0.processor.model = .named(name) }
        }
        expectRefused("twice") { $0.processor.features = [.init("avx", .require), .init("avx", .disable)] }
        expectRefused("129 features") { spec in spec.processor.features = (0..<129).map { .init("f\($0)", .optional) } }
        expectRefused("needs KVM") { $0.processor.model = .hostPassthrough }
        expectRefused("not the 2 vCPUs") { $0.processor.topology = .init(sockets: 1, cores: 1, threads: 1) }
        expectRefused("1 to 255") { $0.processor.topology = .init(sockets: -1, cores: -2, threads: 1) }
    }

    @Test func aProcessorIsAsTheAcceleratorCanGiveIt() throws {
        func processor(_ model: ProcessorSpec.Model, _ accelerator: Accelerator) throws -> [String: String] {
            var spec = Self.virtualMachine
            (spec.processor.model, spec.shape.accelerator) = (model, accelerator)
            var domain = DomainDocument()
            Processor().configure(spec, &domain)
            let tag = domain.settings.first { $0.name == "cpu" }
            return Dictionary(uniqueKeysWithValues: (tag?.attributes ?? []).map { ($0.name, $0.value) })
        }
        #expect(try processor(.maximum, .tcg)["mode"] == "maximum")
        #expect(try processor(.hostModel, .tcg)["mode"] == "maximum", "a pod for nested virtualisation starts on an emulated node, too")
        #expect(try processor(.hostModel, .kvm)["mode"] == "host-model")
        #expect(try processor(.hostPassthrough, .kvm)["mode"] == "host-passthrough")
        #expect(try processor(.maximum, .kvm)["mode"] == "host-passthrough")
        #expect(try processor(.named("Westmere"), .kvm) == ["mode": "custom", "match": "exact", "check": "partial"])
    }

    @Test func pathsThatXMLAndQEMUWouldReadDifferentlyAreEscaped() throws {
        var spec = MachineSpec.minimal()
        spec.kernel = "/k'><x/>&"
        spec.set(.vsock(.vhostUser(socket: "/run/a,b=c", cid: 5)))
        let xml = try DomainBlueprint().xml(spec)
        #expect(xml.contains("<kernel>/k&apos;&gt;&lt;x/&gt;&amp;</kernel>"))
        #expect(xml.contains("socket,id=vu0,path=/run/a,,b=c'"))
    }
}
