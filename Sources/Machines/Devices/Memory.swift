/// Guest memory in a memfd that vhost-user backends and virtiofsd can map.
struct Memory: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        let mebibytes = spec.shape.mebibytes
        if let maximum = spec.shape.growth?.memoryBytes, maximum > spec.shape.memoryBytes {
            domain.settings.append(XMLTag("maxMemory", ["slots": "1", "unit": "MiB"], text: "\(maximum >> 20)"))
        }
        domain.settings.append(XMLTag("memory", ["unit": "MiB"], text: "\(mebibytes)"))
        let pages = spec.shape.hugePages ? [XMLTag("hugepages", [:], [XMLTag("page", ["size": "2", "unit": "MiB"])])] : []
        domain.settings.append(
            XMLTag("memoryBacking", [:], pages + [XMLTag("source", ["type": "memfd"]), XMLTag("access", ["mode": "shared"])]))
    }
}

extension MachineShape {
    /// Memory that the guest has at the start, in whole pages.
    var mebibytes: UInt64 {
        let unit: UInt64 = hugePages ? 2 : 1
        return (((memoryBytes + (1 << 20) - 1) >> 20) + unit - 1) / unit * unit
    }
}
