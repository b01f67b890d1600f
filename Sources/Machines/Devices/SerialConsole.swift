/// The first serial port, into a file: a socket would drop what is written while nobody listens.
struct SerialConsole: DomainConfigurator {
    func configure(_ spec: VMSpec, _ domain: inout DomainDocument) {
        domain.devices.append(
            XMLTag(
                "serial", ["type": "file"],
                [
                    XMLTag("source", ["path": spec.consoleLog]),
                    XMLTag("target", ["type": "isa-serial", "port": "0"]),
                ]))
    }
}
