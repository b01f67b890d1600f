/// QEMU's program, where libvirt's own choice is not wanted.
struct Emulator: DomainConfigurator {
    let host: HostProfile

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let path = host.emulator ?? host.emulators[spec.shape.accelerator] else { return }
        domain.devices.append(XMLTag("emulator", text: path))
    }
}
