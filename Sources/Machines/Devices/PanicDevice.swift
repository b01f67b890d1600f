/// The ISA device by which a kernel tells of its panic: the machine ends at once, as crashed.
struct PanicDevice: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        if spec.hasPanicDevice { domain.devices.append(XMLTag("panic", ["model": "isa"])) }
    }
}
