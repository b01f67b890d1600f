/// The PCI Express tree with free ports for later devices, one SCSI controller for all disks, and no USB.
struct Controllers: DomainConfigurator {
    /// Root ports of a machine that needs no more: SCSI, network, random source, balloon and six to plug into (four interfaces, a
    /// filesystem and memory).
    static let rootPorts = 10
    /// Ports that are free at the start, at the least.
    private static let freePorts = 5

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        domain.devices.append(XMLTag("controller", ["type": "usb", "model": "none"]))
        domain.devices.append(XMLTag("controller", ["type": "pci", "index": "0", "model": "pcie-root"]))
        for index in 1...Self.rootPorts(spec) {
            domain.devices.append(XMLTag("controller", ["type": "pci", "index": "\(index)", "model": "pcie-root-port"]))
        }
        // The watchdog is a conventional PCI card.
        if spec.watchdog != nil {
            domain.devices.append(
                XMLTag("controller", ["type": "pci", "index": "\(Self.rootPorts(spec) + 1)", "model": "pcie-to-pci-bridge"]))
        }
        domain.devices.append(XMLTag("controller", ["type": "scsi", "index": "0", "model": "virtio-scsi"]))
        if !spec.channels.isEmpty { domain.devices.append(XMLTag("controller", ["type": "virtio-serial", "index": "0"])) }
    }

    /// One port for each virtio device, and the free ones.
    static func rootPorts(_ spec: MachineSpec) -> Int {
        var used = 1 + spec.devicesWithPorts
        if spec.hasRandomSource { used += 1 }
        if spec.hasBalloon { used += 1 }
        if !spec.channels.isEmpty { used += 1 }
        if spec.watchdog != nil { used += 1 }
        if case .kernel = spec.vsock { used += 1 }
        return max(rootPorts, used + freePorts)
    }
}
