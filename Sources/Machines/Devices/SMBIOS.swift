/// What the firmware tells of the machine.
struct SMBIOS: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        let identity = spec.identity
        if identity.hasTables {
            var tables = XMLTag("sysinfo", ["type": "smbios"])
            if let serial = identity.serialNumber {
                tables.children.append(XMLTag("system", [:], [XMLTag("entry", ["name": "serial"], text: serial)]))
            }
            if !identity.strings.isEmpty {
                tables.children.append(XMLTag("oemStrings", [:], identity.strings.map { XMLTag("entry", text: $0) }))
            }
            domain.settings.append(tables)
        }
        // libvirt takes no UUID here but the domain's, which tells machines apart. QEMU takes the last one that it is given.
        if let uuid = identity.uuid { domain.emulatorArguments += ["-smbios", "type=1,uuid=\(uuid.uuidString.lowercased())"] }
    }
}

extension SystemIdentity {
    /// Whether libvirt has tables to make.
    var hasTables: Bool { serialNumber != nil || !strings.isEmpty }
}
