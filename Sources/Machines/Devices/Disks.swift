/// Disks, which the guest finds by serial whatever their bus.
struct Disks: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        for (disk, unit) in Self.units(spec.disks) { domain.devices.append(Self.tag(disk, unit: unit)) }
    }

    /// The disks of a machine with the unit of each on its bus, in order.
    static func units(_ disks: [DiskSpec]) -> [(disk: DiskSpec, unit: Int)] {
        var next: [DiskSpec.Bus: Int] = [:]
        return disks.map { disk in
            let unit = next[disk.bus, default: 0]
            next[disk.bus] = unit + 1
            return (disk, unit)
        }
    }

    /// The `<disk>` element of one unit of its bus: the LUN of the one SCSI target, the port of the AHCI controller, or the order among
    /// virtio disks, whose PCI port libvirt chooses.
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
        var tag = XMLTag("disk", ["type": disk.medium == .file ? "file" : "block", "device": "disk"], [driver])
        tag.children.append(disk.medium == .file ? XMLTag("source", ["file": disk.path]) : XMLTag("source", ["dev": disk.path]))
        // Whatever a guest or QEMU writes into the overlay's header, no other file is opened, and no format is probed.
        if let backing = disk.backing {
            tag.children.append(
                XMLTag(
                    "backingStore", ["type": "file"],
                    [XMLTag("format", ["type": backing.format.rawValue]), XMLTag("source", ["file": backing.path]), XMLTag("backingStore")])
            )
        } else if disk.format == .qcow2 {
            tag.children.append(XMLTag("backingStore"))
        }
        tag.children.append(XMLTag("target", ["dev": targetName(unit, on: disk.bus), "bus": disk.bus.rawValue]))
        if let position = disk.bootOrder { tag.children.append(XMLTag("boot", ["order": "\(position)"])) }
        tag.children.append(XMLTag("serial", text: disk.serial))
        if disk.readOnly { tag.children.append(XMLTag("readonly")) }
        if disk.bus != .virtio {
            tag.children.append(XMLTag("address", ["type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": "\(unit)"]))
        }
        return tag
    }

    /// libvirt's name of a unit: sda … sdz, sdaa … . The guest has its own. SATA disks come after all SCSI units: their names have the same
    /// prefix.
    static func targetName(_ unit: Int, on bus: DiskSpec.Bus) -> String {
        switch bus {
        case .scsi: "sd" + letters(unit)
        case .virtio: "vd" + letters(unit)
        case .sata: "sd" + letters(MachineSpec.mostDisks + unit)
        }
    }

    /// The unit of a virtio disk with this name; nil for another name.
    static func virtioUnit(_ name: String) -> Int? {
        (0..<MachineSpec.mostDisks).first { targetName($0, on: .virtio) == name }
    }

    private static func letters(_ number: Int) -> String {
        var letters = ""
        var rest = number
        repeat {
            letters = String(UnicodeScalar(UInt8(ascii: "a") + UInt8(rest % 26))) + letters
            rest = rest / 26 - 1
        } while rest >= 0
        return letters
    }
}
