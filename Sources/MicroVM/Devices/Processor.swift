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
            domain.settings.append(XMLTag("cpu", ["mode": "host-passthrough", "check": "none", "migratable": "on"]))
        case .tcg:
            domain.settings.append(XMLTag("cpu", ["mode": "maximum", "check": "none"]))
            domain.features.append(
                XMLTag("tcg", [:], [XMLTag("tb-cache", ["unit": "MiB"], text: "\(Self.translationCache)")]))
        }
    }
}
