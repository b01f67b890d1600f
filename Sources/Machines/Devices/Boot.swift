/// What the machine runs first.
struct Boot: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        let type = XMLTag("type", ["arch": "x86_64", "machine": "q35"], text: "hvm")
        domain.settings.append(XMLTag("os", [:], [type] + Self.tags(spec.boot)))
        domain.features.append(XMLTag("acpi"))
        domain.features.append(XMLTag("apic"))
    }

    private static func tags(_ boot: MachineBoot) -> [XMLTag] {
        switch boot {
        case .kernel(let kernel, let initramfs, let arguments):
            [
                XMLTag("kernel", text: kernel), XMLTag("initrd", text: initramfs),
                XMLTag("cmdline", text: arguments.joined(separator: " ")),
            ]
        case .disk:
            [XMLTag("boot", ["dev": "hd"])]
        case .firmware(let code, let variables):
            [
                XMLTag("loader", ["readonly": "yes", "type": "pflash"], text: code), XMLTag("nvram", text: variables),
                XMLTag("boot", ["dev": "hd"]),
            ]
        }
    }
}
