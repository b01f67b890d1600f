import FoundationEssentials

/// A libvirt domain in the making: each configurator adds its part.
public struct DomainDocument: Sendable {
    /// Elements between the name and the devices, in order.
    public var settings: [XMLTag] = []
    public var features: [XMLTag] = []
    public var devices: [XMLTag] = []
    /// Elements after the devices: security labels.
    public var labels: [XMLTag] = []
    /// Arguments that QEMU gets after libvirt's own, for devices that libvirt does not know.
    public var emulatorArguments: [String] = []
    /// What libvirt is to take this QEMU not to have, by libvirt's names (virQEMUCaps).
    public var missingCapabilities: [String] = []

    public init() {}

    /// The whole `<domain>` element.
    func tag(for spec: MachineSpec) -> XMLTag {
        var domain = XMLTag("domain", ["type": spec.shape.accelerator == .kvm ? "kvm" : "qemu"])
        if !emulatorArguments.isEmpty || !missingCapabilities.isEmpty {
            domain.attributes.append(.init(name: "xmlns:qemu", value: "http://libvirt.org/schemas/domain/qemu/1.0"))
        }
        domain.children = [XMLTag("name", text: spec.name), XMLTag("uuid", text: spec.id.description)]
        domain.children += settings
        domain.children.append(XMLTag("features", [:], features))
        domain.children.append(XMLTag("devices", [:], devices))
        domain.children += labels
        if !emulatorArguments.isEmpty {
            domain.children.append(XMLTag("qemu:commandline", [:], emulatorArguments.map { XMLTag("qemu:arg", ["value": $0]) }))
        }
        if !missingCapabilities.isEmpty {
            let tags = missingCapabilities.map { XMLTag("qemu:del", ["capability": $0]) }
            domain.children.append(XMLTag("qemu:capabilities", [:], tags))
        }
        return domain
    }
}

/// Adds one device or one aspect of a machine to its domain.
public protocol DomainConfigurator: Sendable {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) throws
}

/// The configurators that make up a machine.
public struct DomainBlueprint: Sendable {
    public var configurators: [any DomainConfigurator]

    /// Every kind of device that a machine may have; each adds what the spec lists of its kind.
    ///
    /// - Parameter host: what the domain depends on besides its spec.
    public init(host: HostProfile = HostProfile()) {
        configurators = [
            Memory(), Processor(), SMBIOS(), Boot(), Lifecycle(), Emulator(host: host), Controllers(), Disks(), Interfaces(),
            SerialConsole(), RandomSource(), Balloon(), PanicDevice(), Watchdog(), TPM(), Display(), SharedFilesystems(), Vsock(),
            Channels(),
            SecurityLabel(dac: host.dacLabel),
        ]
    }

    /// The domain's XML.
    ///
    /// - Throws: `invalidArgument` for a spec that fails `MachineSpec.validate`.
    public func xml(_ spec: MachineSpec) throws -> String {
        try spec.validate()
        var domain = DomainDocument()
        for configurator in configurators { try configurator.configure(spec, &domain) }
        return domain.tag(for: spec).rendered()
    }
}

/// What domains depend on besides their specs.
public struct HostProfile: Sendable, Equatable {
    /// QEMU's program; nil leaves the choice to libvirt.
    public var emulator: String?
    /// Its paths by the machine's accelerator, where it is libvirt's choice and has such.
    public var emulators: [Accelerator: String]
    /// The user and group that libvirt runs QEMU as, in its notation (`+64055:+108`).
    public var dacLabel: String?

    public init(emulator: String? = nil, emulators: [Accelerator: String] = [:], dacLabel: String? = nil) {
        self.emulator = emulator
        self.emulators = emulators
        self.dacLabel = dacLabel
    }
}
