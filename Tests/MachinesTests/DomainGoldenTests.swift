import Errors
import Foundation
import Machines
import Testing

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
        return [
            "tcg-minimal": minimal, "tcg-tap-and-disks": full, "kernel-vsock": kernelVsock, "kvm": kvm, "disk": disk, "firmware": firmware,
        ]
    }()

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
        expectRefused { $0.devices += (0..<8).map { .filesystem(FilesystemSpec(tag: "t\($0)", socket: "/a")) } }
        expectRefused { $0.devices.append(.balloon) }
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
