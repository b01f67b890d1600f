import Testing

@testable import Machines

struct DiskSpecTests {
    @Test(arguments: DiskSpec.Bus.allCases) func anyNameGivesASerialThatFits(bus: DiskSpec.Bus) throws {
        let names = [
            "data", "a.b-c_d", "", "-a", ".a", "ä/ö\n", String(repeating: "n", count: 63), String(repeating: "n", count: 62) + "m", "a b",
            "a_b",
        ]
        let serials = names.map { bus.serial(of: $0) }
        #expect(serials[..<2] == ["data", "a.b-c_d"])
        #expect(Set(serials).count == names.count, "\(serials)")
        for serial in serials { try DiskSpec(path: "/a", serial: serial, readOnly: false, bus: bus).validate() }
        #expect(serials[6].hasPrefix("nnnn"))
    }

    @Test func virtioDisksHaveUnitsByName() {
        #expect((0..<MachineSpec.mostDisks).allSatisfy { Disks.virtioUnit(Disks.targetName($0, on: .virtio)) == $0 })
        #expect(Disks.virtioUnit("sda") == nil && Disks.virtioUnit("vd") == nil)
        let names = (0..<MachineSpec.mostDisks).map { Disks.targetName($0, on: .scsi) } + (0..<6).map { Disks.targetName($0, on: .sata) }
        #expect(Set(names).count == names.count)
    }

    @Test func aPluggedDiskGetsTheFirstFreeUnitOfItsBus() {
        var spec = MachineSpec.minimal()
        func disk(_ serial: String, _ bus: DiskSpec.Bus) -> DiskSpec { DiskSpec(path: "/a", serial: serial, readOnly: false, bus: bus) }
        spec.add([disk("a", .virtio), disk("b", .scsi), disk("c", .virtio), disk("d", .sata)])
        var attached = MachineAttachments(spec)
        #expect(DiskSpec.Bus.allCases.map { attached.freeUnit(on: $0) } == [1, 2, 1])
        #expect(attached.isSCSIDisk(.disk(serial: "b")) && !attached.isSCSIDisk(.disk(serial: "a")))
        attached.remove(.disk(serial: "a"))
        #expect(attached.freeUnit(on: .virtio) == 0)
        for unit in [0] + Array(2..<20) { attached.add(disk("v\(unit)", .virtio), unit: unit) }
        #expect(attached.freeUnit(on: .virtio) == nil)
    }
}
