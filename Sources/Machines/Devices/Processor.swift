extension Accelerator {
    /// The processor of a pod's machine in QEMU's own words, for one that libvirt does not start.
    public var processorArguments: [String] {
        switch self {
        case .kvm: ["-accel", "kvm", "-cpu", "host"]
        case .tcg:
            [
                "-accel", "tcg,tb-size=\(Processor.translationCache)", "-cpu",
                (["max"] + Processor.unwanted.map { "-" + $0 }).joined(separator: ","),
            ]
        }
    }
}

/// vCPUs, with every feature that the host or the emulator can give.
struct Processor: DomainConfigurator {
    /// MiB of translated code that the emulator keeps per machine. Its own default grows to hundreds, and what is translated
    /// once is kept: most of what an idle guest costs the host. A guest with its first container running has needed 72 MiB; a full
    /// cache is emptied, and 12 MiB of it are translated again at once. With 48 MiB that happens once, during the boot; with 32
    /// three times, the last time while the first container is made, which takes it a third of a second.
    static let translationCache = 48

    /// Features that the emulator has and is faster without. With erms and fsrm Linux copies and clears memory byte by byte
    /// ("rep movsb"), each a turn of a loop in the emulator; without, by eight bytes: a guest boots in a sixth less time.
    fileprivate static let unwanted = ["erms", "fsrm"]

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        if let maximum = spec.shape.growth?.vcpus, maximum > spec.shape.vcpus {
            domain.settings.append(XMLTag("vcpu", ["placement": "static", "current": "\(spec.shape.vcpus)"], text: "\(maximum)"))
        } else {
            domain.settings.append(XMLTag("vcpu", ["placement": "static"], text: "\(spec.shape.vcpus)"))
        }
        switch spec.shape.accelerator {
        case .kvm:
            domain.settings.append(
                XMLTag("cpu", ["mode": "host-passthrough", "check": "none", "migratable": "on"], Self.topology(spec)))
        case .tcg:
            let disabled = Self.unwanted.map { XMLTag("feature", ["policy": "disable", "name": $0]) }
            domain.settings.append(XMLTag("cpu", ["mode": "maximum", "check": "none"], disabled + Self.topology(spec)))
            domain.features.append(
                XMLTag("tcg", [:], [XMLTag("tb-cache", ["unit": "MiB"], text: "\(Self.translationCache)")]))
        }
    }

    /// One NUMA node for all: libvirt plugs memory into nodes only.
    private static func topology(_ spec: MachineSpec) -> [XMLTag] {
        guard let growth = spec.shape.growth, growth.memoryBytes > spec.shape.memoryBytes else { return [] }
        let (last, mebibytes) = (max(growth.vcpus, spec.shape.vcpus) - 1, (spec.shape.memoryBytes + (1 << 20) - 1) >> 20)
        return [
            XMLTag("numa", [:], [XMLTag("cell", ["id": "0", "cpus": "0-\(last)", "memory": "\(mebibytes)", "unit": "MiB"])])
        ]
    }
}
