/// Network devices on taps that somebody else made and will move.
struct Interfaces: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        for interface in spec.interfaces { domain.devices.append(Self.tag(interface)) }
    }

    static func tag(_ interface: InterfaceSpec) -> XMLTag {
        var tag = XMLTag(
            "interface", ["type": "ethernet"],
            [
                XMLTag("mac", ["address": interface.mac]),
                XMLTag("target", ["dev": interface.tap, "managed": "no"]),
                XMLTag("model", ["type": "virtio"]),
            ])
        if let mtu = interface.mtu { tag.children.append(XMLTag("mtu", ["size": "\(mtu)"])) }
        if let position = interface.bootOrder { tag.children.append(XMLTag("boot", ["order": "\(position)"])) }
        // A boot does not wait for a network boot ROM that nobody asked for.
        if !interface.bootROM { tag.children.append(XMLTag("rom", ["enabled": "no"])) }
        return tag
    }
}
