/// Gives pages the guest has freed back to the host, and inflates less when the guest would run out of memory.
struct Balloon: DomainConfigurator {
    func configure(_ spec: VMSpec, _ domain: inout DomainDocument) {
        domain.devices.append(XMLTag("memballoon", ["model": "virtio", "autodeflate": "on", "freePageReporting": "on"]))
    }
}
