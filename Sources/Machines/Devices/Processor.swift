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

/// vCPUs, with every feature that the host or the emulator can give, unless others are asked for.
struct Processor: DomainConfigurator {
    /// MiB of translated code that the emulator keeps per machine. Its own default grows to hundreds, and what is translated
    /// once is kept: most of what an idle guest costs the host. A guest with its first container running has needed 72 MiB; a full
    /// cache is emptied, and 12 MiB of it are translated again at once. With 48 MiB that happens once, during the boot, which takes a
    /// twelfth more of the processor then; a guest that is ready holds 8 MiB more with 80.
    static let translationCache = 80

    /// Guests that boot from a disk of their own run less of it the smaller they are: a seventh of their memory. A guest of 128 MiB uses a
    /// twentieth to a tenth more of the processor until it is up with 18 MiB than with 48; Debian 12 with systemd and cloud-init, in 512
    /// MiB, until its login a tenth more with 32, a third more with 24, and four fifths more with 16.
    private static func translationCache(_ spec: MachineSpec) -> Int {
        if case .kernel = spec.boot { return translationCache }
        return min(max(Int(clamping: spec.shape.mebibytes / 7), diskBootCaches.lowerBound), diskBootCaches.upperBound)
    }
    private static let diskBootCaches = 16...48

    /// Features that the emulator has and is faster without. With erms and fsrm Linux copies and clears memory byte by byte
    /// ("rep movsb"), each a turn of a loop in the emulator; without, by eight bytes: a guest boots in a sixth less time.
    fileprivate static let unwanted = ["erms", "fsrm"]

    /// With it libvirt asks QEMU after its start for each feature of the guest's processor, some 400 questions that take 0.2 s of it;
    /// without, for the CPUID words, which are two.
    private static let featureQuestions = "cpu-unavailable-features"

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        if let maximum = spec.shape.growth?.vcpus, maximum > spec.shape.vcpus {
            domain.settings.append(XMLTag("vcpu", ["placement": "static", "current": "\(spec.shape.vcpus)"], text: "\(maximum)"))
        } else {
            domain.settings.append(XMLTag("vcpu", ["placement": "static"], text: "\(spec.shape.vcpus)"))
        }
        domain.settings.append(Self.tag(spec))
        // The answers make a named model's features exact, those outside of CPUID too, by which it is saved and comes back; nothing
        // depends on them for a processor that has what there is.
        if spec.hasNoNamedProcessor { domain.missingCapabilities.append(Self.featureQuestions) }
        if spec.shape.accelerator == .tcg {
            domain.features.append(XMLTag("tcg", [:], [XMLTag("tb-cache", ["unit": "MiB"], text: "\(Self.translationCache(spec))")]))
        }
    }

    private static func tag(_ spec: MachineSpec) -> XMLTag {
        var tag: XMLTag
        switch (spec.processor.model, spec.shape.accelerator) {
        case (.maximum, .kvm), (.hostPassthrough, _):
            tag = XMLTag("cpu", ["mode": "host-passthrough", "check": "none", "migratable": "on"])
        case (.maximum, .tcg), (.hostModel, .tcg):
            tag = XMLTag("cpu", ["mode": "maximum", "check": "none"])
        case (.hostModel, .kvm):
            tag = XMLTag("cpu", ["mode": "host-model", "check": "partial"])
        case (.named(let name), let accelerator):
            // The emulator leaves out what it does not have; a host that cannot be the model is refused.
            let check = accelerator == .kvm ? "partial" : "none"
            tag = XMLTag(
                "cpu", ["mode": "custom", "match": "exact", "check": check], [XMLTag("model", ["fallback": "forbid"], text: name)])
        }
        if let topology = spec.processor.topology {
            tag.children.append(
                XMLTag(
                    "topology",
                    ["sockets": "\(topology.sockets)", "cores": "\(topology.cores)", "threads": "\(topology.threads)"]))
        }
        var features = spec.processor.features.map { ($0.name, $0.policy.rawValue) }
        if spec.shape.accelerator == .tcg {
            let named = Set(features.map(\.0))
            features = unwanted.filter { !named.contains($0) }.map { ($0, "disable") } + features
        }
        tag.children += features.map { XMLTag("feature", ["policy": $0.1, "name": $0.0]) }
        tag.children += memoryNode(spec)
        return tag
    }

    /// One NUMA node for all: libvirt plugs memory into nodes only.
    private static func memoryNode(_ spec: MachineSpec) -> [XMLTag] {
        guard let growth = spec.shape.growth, growth.memoryBytes > spec.shape.memoryBytes else { return [] }
        let (last, mebibytes) = (max(growth.vcpus, spec.shape.vcpus) - 1, spec.shape.mebibytes)
        return [
            XMLTag("numa", [:], [XMLTag("cell", ["id": "0", "cpus": "0-\(last)", "memory": "\(mebibytes)", "unit": "MiB"])])
        ]
    }
}

extension MachineSpec {
    /// libvirt starts QEMU with no model of its own list.
    fileprivate var hasNoNamedProcessor: Bool {
        switch (processor.model, shape.accelerator) {
        case (.maximum, _), (.hostPassthrough, _), (.hostModel, .tcg): true
        case (.hostModel, .kvm), (.named, _): false
        }
    }
}
