/// The kernel and the initramfs go into memory without firmware looking for a disk.
struct DirectKernelBoot: DomainConfigurator {
    func configure(_ spec: VMSpec, _ domain: inout DomainDocument) {
        domain.settings.append(
            XMLTag(
                "os", [:],
                [
                    XMLTag("type", ["arch": "x86_64", "machine": "q35"], text: "hvm"),
                    XMLTag("kernel", text: spec.kernel),
                    XMLTag("initrd", text: spec.initramfs),
                    XMLTag("cmdline", text: spec.kernelArguments.joined(separator: " ")),
                ]))
        domain.features.append(XMLTag("acpi"))
        domain.features.append(XMLTag("apic"))
    }
}
