/// Entropy from the host.
struct RandomSource: DomainConfigurator {
    func configure(_ spec: VMSpec, _ domain: inout DomainDocument) {
        domain.devices.append(XMLTag("rng", ["model": "virtio"], [XMLTag("backend", ["model": "random"], text: "/dev/urandom")]))
    }
}
