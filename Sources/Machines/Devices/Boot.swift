/// What the machine runs first.
struct Boot: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        let type = XMLTag("type", ["arch": "x86_64", "machine": "q35"], text: "hvm")
        domain.settings.append(XMLTag("os", [:], [type] + Self.tags(spec)))
        domain.features.append(XMLTag("acpi"))
        domain.features.append(XMLTag("apic"))
    }

    private static func tags(_ spec: MachineSpec) -> [XMLTag] {
        // libvirt takes positions of single devices or kinds of devices, not both.
        let order = spec.bootPositions.isEmpty ? [XMLTag("boot", ["dev": "hd"])] : []
        let tables = spec.identity.hasTables ? [XMLTag("smbios", ["mode": "sysinfo"])] : []
        switch spec.boot {
        case .kernel(let kernel, let initramfs, let arguments):
            return [
                XMLTag("kernel", text: kernel), XMLTag("initrd", text: initramfs),
                XMLTag("cmdline", text: arguments.joined(separator: " ")),
            ] + tables
        case .disk:
            return order + tables
        case .firmware(let code, let variables):
            return [XMLTag("loader", ["readonly": "yes", "type": "pflash"], text: code), XMLTag("nvram", text: variables)] + order + tables
        }
    }
}
