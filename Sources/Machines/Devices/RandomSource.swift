/// Entropy from the host.
struct RandomSource: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard spec.hasRandomSource else { return }
        domain.devices.append(XMLTag("rng", ["model": "virtio"], [XMLTag("backend", ["model": "random"], text: "/dev/urandom")]))
    }
}
