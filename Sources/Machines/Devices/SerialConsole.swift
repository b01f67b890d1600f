/// The first serial port, into a file: a socket would drop what is written while nobody listens. QEMU appends, so that
/// the file can be cut while the machine runs (``ConsoleLogs``).
struct SerialConsole: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let console = spec.console else { return }
        domain.devices.append(
            XMLTag(
                "serial", ["type": "file"],
                [
                    XMLTag("source", ["path": console.log, "append": "on"]),
                    XMLTag("target", ["type": "isa-serial", "port": "0"]),
                ]))
    }
}
