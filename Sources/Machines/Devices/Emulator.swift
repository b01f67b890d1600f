/// QEMU's program, where libvirt's own choice is not wanted.
struct Emulator: DomainConfigurator {
    let path: String?

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let path else { return }
        domain.devices.append(XMLTag("emulator", text: path))
    }
}
