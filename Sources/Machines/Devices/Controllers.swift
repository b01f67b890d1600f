/// The PCI Express tree with free ports for later devices, one SCSI controller for all disks, and no USB.
struct Controllers: DomainConfigurator {
    /// Root ports: SCSI, network, random source, balloon and six to plug into (four interfaces, a filesystem and memory).
    static let rootPorts = 10

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        domain.devices.append(XMLTag("controller", ["type": "usb", "model": "none"]))
        domain.devices.append(XMLTag("controller", ["type": "pci", "index": "0", "model": "pcie-root"]))
        for index in 1...Self.rootPorts {
            domain.devices.append(XMLTag("controller", ["type": "pci", "index": "\(index)", "model": "pcie-root-port"]))
        }
        domain.devices.append(XMLTag("controller", ["type": "scsi", "index": "0", "model": "virtio-scsi"]))
    }
}
