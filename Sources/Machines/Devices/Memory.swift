/// Guest memory in a memfd that vhost-user backends and virtiofsd can map.
struct Memory: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        let mebibytes = (spec.shape.memoryBytes + (1 << 20) - 1) >> 20
        if let maximum = spec.shape.growth?.memoryBytes, maximum > spec.shape.memoryBytes {
            domain.settings.append(XMLTag("maxMemory", ["slots": "1", "unit": "MiB"], text: "\(maximum >> 20)"))
        }
        domain.settings.append(XMLTag("memory", ["unit": "MiB"], text: "\(mebibytes)"))
        domain.settings.append(
            XMLTag(
                "memoryBacking", [:],
                [XMLTag("source", ["type": "memfd"]), XMLTag("access", ["mode": "shared"])]))
    }
}
