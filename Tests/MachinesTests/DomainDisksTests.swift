import Testing

@testable import Machines

struct DomainDisksTests {
    private let xml = """
        <domain><devices><disk type='file' device='disk'>
          <driver name='qemu' type='raw' cache='unsafe'/>
          <source file='/a&apos;b' index='1'><seclabel model='dac' relabel='no'/></source>
          <backingStore/>
          <target dev='sda' bus='scsi'/>
          <serial>scratch</serial>
          <alias name='scsi0-0-0-0'/>
          <address type='drive' controller='0' bus='0' target='0' unit='0'/>
        </disk>
        <disk type='file' device='disk'><target dev='sdc' bus='scsi'/><serial>layer</serial>
          <address type='drive' controller='0' bus='0' target='0' unit='2'/></disk>
        <disk type='file' device='disk'><target dev='vda' bus='virtio'/>
          <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></disk>
        <serial type='file'/></devices></domain>
        """

    @Test func disksAreFoundBySerial() {
        let disks = DomainDisks(liveXML: xml)
        #expect(disks.entries.count == 3)
        #expect(disks["scratch"]?.unit == 0)
        #expect(disks["scratch"]?.target == "sda")
        #expect(disks["layer"]?.xml.hasPrefix("<disk ") == true)
        #expect(disks["layer"]?.xml.hasSuffix("</disk>") == true)
        #expect(disks["absent"] == nil)
        #expect(disks.entries[2].unit == nil)
    }

    @Test func theLowestFreeUnitIsNext() {
        #expect(DomainDisks(liveXML: xml).freeUnit == 1)
        #expect(DomainDisks(liveXML: "<domain/>").freeUnit == 0)
        let full = (0..<VMSpec.mostDisks).map {
            Disks.tag(DiskSpec(path: "/a", serial: "s\($0)", readOnly: true), unit: $0).rendered()
        }.joined()
        #expect(DomainDisks(liveXML: full).freeUnit == nil)
        #expect(DomainDisks(liveXML: full)["s255"]?.unit == 255)
    }

    @Test(arguments: [(0, "sda"), (25, "sdz"), (26, "sdaa"), (51, "sdaz"), (52, "sdba"), (255, "sdiv"), (701, "sdzz")])
    func unitsHaveDistinctNames(unit: Int, name: String) {
        #expect(Disks.targetName(unit) == name)
    }
}
