/// A network device on a tap that somebody else made and will move.
struct Interface: DomainConfigurator {
    func configure(_ spec: VMSpec, _ domain: inout DomainDocument) {
        guard let interface = spec.interface else { return }
        var tag = XMLTag(
            "interface", ["type": "ethernet"],
            [
                XMLTag("mac", ["address": interface.mac]),
                XMLTag("target", ["dev": interface.tap, "managed": "no"]),
                XMLTag("model", ["type": "virtio"]),
            ])
        if let mtu = interface.mtu { tag.children.append(XMLTag("mtu", ["size": "\(mtu)"])) }
        // The kernel's boot does not wait for a network boot ROM.
        tag.children.append(XMLTag("rom", ["enabled": "no"]))
        domain.devices.append(tag)
    }
}
