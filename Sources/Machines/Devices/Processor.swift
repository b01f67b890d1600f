/// vCPUs, with every feature that the host or the emulator can give.
struct Processor: DomainConfigurator {
    /// MiB of translated code that the emulator keeps per machine. Its own default grows to hundreds, and what is translated
    /// once is kept: most of what an idle guest costs the host.
    static let translationCache = 32

    func configure(_ spec: VMSpec, _ domain: inout DomainDocument) {
        if let maximum = spec.growth?.vcpus, maximum > spec.vcpus {
            domain.settings.append(XMLTag("vcpu", ["placement": "static", "current": "\(spec.vcpus)"], text: "\(maximum)"))
        } else {
            domain.settings.append(XMLTag("vcpu", ["placement": "static"], text: "\(spec.vcpus)"))
        }
        switch spec.accelerator {
        case .kvm:
            domain.settings.append(
                XMLTag("cpu", ["mode": "host-passthrough", "check": "none", "migratable": "on"], Self.topology(spec)))
        case .tcg:
            domain.settings.append(XMLTag("cpu", ["mode": "maximum", "check": "none"], Self.topology(spec)))
            domain.features.append(
                XMLTag("tcg", [:], [XMLTag("tb-cache", ["unit": "MiB"], text: "\(Self.translationCache)")]))
        }
    }

    /// One NUMA node for all: libvirt plugs memory into nodes only.
    private static func topology(_ spec: VMSpec) -> [XMLTag] {
        guard let growth = spec.growth, growth.memoryBytes > spec.memoryBytes else { return [] }
        let (last, mebibytes) = (max(growth.vcpus, spec.vcpus) - 1, (spec.memoryBytes + (1 << 20) - 1) >> 20)
        return [
            XMLTag("numa", [:], [XMLTag("cell", ["id": "0", "cpus": "0-\(last)", "memory": "\(mebibytes)", "unit": "MiB"])])
        ]
    }
}
