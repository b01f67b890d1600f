/// Gives pages the guest has freed back to the host, and inflates less when the guest would run out of memory.
struct Balloon: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard spec.hasBalloon else {
            // libvirt gives a machine one by itself.
            domain.devices.append(XMLTag("memballoon", ["model": "none"]))
            return
        }
        var tag = XMLTag("memballoon", ["model": "virtio", "autodeflate": "on", "freePageReporting": "on"])
        // A guest that boots a kernel of ours has an agent that knows more.
        if case .kernel = spec.boot {} else { tag.children.append(XMLTag("stats", ["period": "10"])) }
        domain.devices.append(tag)
    }
}
