/// A virtio display, VNC on a unix socket, and a renderer for guests that draw in 3D.
struct Display: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let display = spec.display else { return }
        if let socket = display.vncSocket {
            domain.devices.append(XMLTag("graphics", ["type": "vnc", "socket": socket]))
        }
        var model = XMLTag("model", ["type": "virtio", "heads": "1", "primary": "yes"])
        if let node = display.renderNode {
            // Draws without a screen of the node's; VNC shows what is drawn.
            domain.devices.append(XMLTag("graphics", ["type": "egl-headless"], [XMLTag("gl", ["rendernode": node])]))
            model.children.append(XMLTag("acceleration", ["accel3d": "yes"]))
        }
        domain.devices.append(XMLTag("video", [:], [model]))
    }
}
