/// A watchdog card, on a conventional PCI bus of its own.
struct Watchdog: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let action = spec.watchdog else { return }
        domain.devices.append(XMLTag("watchdog", ["model": "i6300esb", "action": action.rawValue]))
    }
}
