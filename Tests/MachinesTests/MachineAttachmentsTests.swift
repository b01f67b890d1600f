import Testing

@testable import Machines

struct MachineAttachmentsTests {
    /// As libvirt might write it one day: other quotes, another order of attributes, elements within elements.
    private let xml = """
        <?xml version="1.0"?>
        <domain type='qemu' id='1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><devices><disk device="disk" type='file'>
          <driver name='qemu' type='raw' cache='unsafe'/>
          <source file='/a&apos;b' index='1'><seclabel model='dac' relabel='no'/></source>
          <backingStore type='file'><format type='raw'/><source file='/base'/><serial>of-the-backing</serial><backingStore/></backingStore>
          <target bus="scsi" dev='sda'/>
          <serial>scratch</serial>
          <alias name='scsi0-0-0-0'/>
          <address type='drive' controller='0' bus='0' target='0' unit='0'/>
        </disk>
        <!-- <disk type='file'><serial>commented</serial></disk> -->
        <disk type='file' device='disk'><target dev='sdc' bus='scsi'/><serial>layer</serial>
          <address type='drive' controller='0' bus='0' target='0' unit='2'/></disk>
        <disk type='file' device='disk'><target dev='vda' bus='virtio'/><serial>virtio</serial>
          <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></disk>
        <filesystem type='mount'>
          <driver type='virtiofs' queue='1024'/>
          <source socket='/run/a'/>
          <target dir='swiftlet'/>
        </filesystem>
        <interface type='ethernet'><mac address='02:53:57:4c:00:01'/></interface>
        <serial type='file'/></devices></domain>
        """

    @Test func whatLibvirtDescribesIsFoundWhateverItsForm() throws {
        let attached = try MachineAttachments(liveDomain: XMLTag(parsing: xml))
        #expect(attached.disks.keys.sorted() == ["layer", "scratch", "virtio"])
        #expect(attached.disks["scratch"]?.unit == 0)
        #expect(attached.disks["virtio"]?.unit == 0 && attached.disks["virtio"]?.bus == .virtio)
        #expect(attached[.disk(serial: "layer")]?["target"]?.attribute("dev") == "sdc")
        #expect(attached.contains(.filesystem(tag: "swiftlet")))
        #expect(!attached.contains(.filesystem(tag: "swift")))
        #expect(attached.contains(.interface(mac: "02:53:57:4c:00:01")))
        #expect(try MachineAttachments(liveDomain: XMLTag(parsing: "<domain/>")) == MachineAttachments(liveDomain: XMLTag("domain")))
    }

    @Test func whatIsReadIsWrittenBack() throws {
        let tag = try XMLTag(parsing: xml)
        #expect(try XMLTag(parsing: tag.rendered()) == tag)
        #expect(tag.attribute("xmlns:qemu") == "http://libvirt.org/schemas/domain/qemu/1.0")
        #expect(throws: (any Error).self) { try XMLTag(parsing: "<domain><disk></domain>") }
        #expect(throws: (any Error).self) { try XMLTag(parsing: "") }
    }

    @Test func aMachineHasWhatItWasStartedWith() throws {
        var spec = MachineSpec.minimal()
        spec.add((0..<3).map { DiskSpec(path: "/d\($0)", serial: "d\($0)", readOnly: true) })
        spec.set(.interface(InterfaceSpec(tap: "t", mac: "02:53:57:4c:00:01")))
        let attached = MachineAttachments(spec)
        #expect(attached.disks.mapValues(\.unit) == ["d0": 0, "d1": 1, "d2": 2])
        #expect(attached.contains(.interface(mac: "02:53:57:4c:00:01")))
        #expect(attached.freeUnit(on: .scsi) == 3)
    }

    @Test func aUnitThatHasJustBecomeFreeIsTheLastToBeTaken() throws {
        var attached = MachineAttachments(MachineSpec.minimal())
        func disk(_ number: Int) -> DiskSpec { DiskSpec(path: "/a", serial: "s\(number)", readOnly: true) }
        attached.add(disk(0), unit: 0)
        attached.remove(.disk(serial: "s0"))
        for number in 1..<MachineSpec.mostDisks {
            #expect(attached.freeUnit(on: .scsi) == number)
            attached.add(disk(number), unit: number)
        }
        #expect(attached.freeUnit(on: .scsi) == 0)
        attached.add(disk(0), unit: 0)
        #expect(attached.freeUnit(on: .scsi) == nil)
        attached.remove(.disk(serial: "s7"))
        #expect(attached.freeUnit(on: .scsi) == 7)
    }

    @Test(arguments: [(0, "sda"), (25, "sdz"), (26, "sdaa"), (51, "sdaz"), (52, "sdba"), (255, "sdiv"), (701, "sdzz")])
    func unitsHaveDistinctNames(unit: Int, name: String) {
        #expect(Disks.targetName(unit, on: .scsi) == name)
    }

    // MARK: Registry

    @Test func whatIsAttachedIsAskedOnceAndAgainOnlyAfterAFailure() {
        let (registry, id) = (AttachmentRegistry(), MachineID.random())
        #expect(registry.beginChange(of: id) == nil, "found again: nothing is known yet")
        let attached = MachineAttachments(MachineSpec.minimal())
        registry.endChange(of: id, attached)
        for _ in 0..<3 {
            #expect(registry.beginChange(of: id) == attached)
            registry.endChange(of: id, attached)
        }
        #expect(registry.beginChange(of: id) == attached)
        registry.endChange(of: id, nil)
        #expect(registry.beginChange(of: id) == nil)
    }

    @Test func aMachineThatEndsDuringAChangeIsForgotten() {
        let (registry, id) = (AttachmentRegistry(), MachineID.random())
        let attached = MachineAttachments(MachineSpec.minimal())
        registry.insert(attached, of: id)
        #expect(registry.beginChange(of: id) == attached)
        registry.remove(id)
        registry.endChange(of: id, attached)
        #expect(registry.beginChange(of: id) == nil)
    }

    @Test func theSavedDomainHasNoVsockDeviceOfQEMUs() throws {
        let domain = try XMLTag(parsing: DomainBlueprint().xml(.minimal()))
        let rest = Vsock.withoutDevice(domain)
        let arguments = rest["qemu:commandline"]?.all("qemu:arg").compactMap { $0.attribute("value") } ?? []
        #expect(arguments.count == 2 && arguments.last?.contains("pcie-root-port") == true, "\(arguments)")
        #expect(rest["devices"] == domain["devices"])
    }

    @Test func qemusUserIsFoundInTheCapabilities() throws {
        let capabilities = """
            <capabilities><host><secmodel><model>none</model><baselabel type='kvm'>no</baselabel></secmodel>
            <secmodel><doi>0</doi><model>dac</model><baselabel type='qemu'>+1:+2</baselabel><baselabel type="kvm">+64055:+108</baselabel>
            </secmodel></host></capabilities>
            """
        #expect(try LibvirtHypervisor.dacLabel(XMLTag(parsing: capabilities)) == "+64055:+108")
        #expect(try LibvirtHypervisor.dacLabel(XMLTag(parsing: "<capabilities/>")) == nil)
    }
}
