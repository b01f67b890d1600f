/// The first serial port, into a file: a socket alone would drop what is written while nobody listens. QEMU appends, so that
/// the file can be cut while the machine runs (``ConsoleLogs``).
struct SerialConsole: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let console = spec.console else { return }
        let target = XMLTag("target", ["type": "isa-serial", "port": "0"])
        if let socket = console.socket {
            domain.devices.append(
                XMLTag(
                    "serial", ["type": "unix"],
                    [
                        XMLTag("source", ["mode": "bind", "path": socket]), XMLTag("log", ["file": console.log, "append": "on"]), target,
                    ]))
        } else {
            domain.devices.append(
                XMLTag("serial", ["type": "file"], [XMLTag("source", ["path": console.log, "append": "on"]), target]))
        }
    }
}
