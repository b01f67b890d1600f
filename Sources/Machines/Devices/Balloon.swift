/// Gives pages the guest has freed back to the host, and inflates less when the guest would run out of memory.
struct Balloon: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard spec.hasBalloon else {
            // libvirt gives a machine one by itself.
            domain.devices.append(XMLTag("memballoon", ["model": "none"]))
            return
        }
        domain.devices.append(XMLTag("memballoon", ["model": "virtio", "autodeflate": "on", "freePageReporting": "on"]))
    }
}
