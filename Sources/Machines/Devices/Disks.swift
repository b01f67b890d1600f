/// Disks as units of one virtio-scsi target: they plug without a PCI port and are found by serial.
struct Disks: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        for (unit, disk) in spec.disks.enumerated() { domain.devices.append(Self.tag(disk, unit: unit)) }
    }

    /// The `<disk>` element of one unit (LUN) of target 0.
    static func tag(_ disk: DiskSpec, unit: Int) -> XMLTag {
        var driver = XMLTag("driver", ["name": "qemu", "type": disk.format.rawValue])
        if !disk.readOnly {
            // Ephemeral: the host may lose what the guest flushed, because then the guest is lost too.
            driver.attributes.append(.init(name: "cache", value: disk.ephemeral ? "unsafe" : "writeback"))
            driver.attributes.append(.init(name: "discard", value: "unmap"))
            // A guest that was told of the node's full disk would lose what it wrote: the machine is stopped instead, and goes on when
            // there is room. Other errors are the guest's to handle.
            driver.attributes.append(.init(name: "error_policy", value: "enospace"))
            driver.attributes.append(.init(name: "rerror_policy", value: "report"))
        }
        let source = XMLTag("source", ["file": disk.path])
        var tag = XMLTag(
            "disk", ["type": "file", "device": "disk"],
            [driver, source, XMLTag("target", ["dev": targetName(unit), "bus": "scsi"]), XMLTag("serial", text: disk.serial)])
        if disk.readOnly { tag.children.append(XMLTag("readonly")) }
        tag.children.append(
            XMLTag("address", ["type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": "\(unit)"]))
        return tag
    }

    /// libvirt's name of a unit: sda … sdz, sdaa … . The guest has its own.
    static func targetName(_ unit: Int) -> String {
        var suffix = ""
        var rest = unit
        repeat {
            suffix = String(UnicodeScalar(UInt8(ascii: "a") + UInt8(rest % 26))) + suffix
            rest = rest / 26 - 1
        } while rest >= 0
        return "sd" + suffix
    }
}
