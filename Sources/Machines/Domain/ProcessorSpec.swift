import Errors

/// What kind of processor the guest sees.
public struct ProcessorSpec: Sendable, Codable, Hashable {
    public enum Model: Sendable, Codable, Hashable {
        /// All that the host's processor or the emulator can give.
        case maximum
        /// The host's processor, as libvirt's nearest named model with its features. An emulated machine has `maximum` instead.
        case hostModel
        /// The host's processor itself; KVM only.
        case hostPassthrough
        /// A model of libvirt's and QEMU's, such as `Westmere`. What the emulator does not have of it is left out.
        case named(String)
    }

    /// What becomes of a feature, in libvirt's words (formatdomain, "CPU model and topology").
    public enum Policy: String, Sendable, Codable, CaseIterable {
        case require
        case optional
        case disable
        case force
        case forbid
    }

    public struct Feature: Sendable, Codable, Hashable {
        /// As libvirt names it: `avx`. Names that it does not know are refused by it at the start.
        public var name: String
        public var policy: Policy

        public init(_ name: String, _ policy: Policy) {
            self.name = name
            self.policy = policy
        }
    }

    /// Sockets, cores of each and threads of each; the product is the most vCPUs that the machine can have.
    public struct Topology: Sendable, Codable, Hashable {
        public var sockets: Int
        public var cores: Int
        public var threads: Int

        public init(sockets: Int, cores: Int, threads: Int) {
            self.sockets = sockets
            self.cores = cores
            self.threads = threads
        }
    }

    public var model: Model
    public var features: [Feature]
    /// Nil: a socket for each vCPU.
    public var topology: Topology?

    public init(model: Model = .maximum, features: [Feature] = [], topology: Topology? = nil) {
        self.model = model
        self.features = features
        self.topology = topology
    }

    static let mostFeatures = 128

    func validate(for shape: MachineShape) throws {
        func require(_ holds: Bool, _ problem: @autoclosure () -> String) throws {
            guard holds else { throw SwiftletError(.invalidArgument, "processor: \(problem())") }
        }
        switch model {
        case .maximum, .hostModel: break
        case .hostPassthrough: try require(shape.accelerator == .kvm, "host-passthrough needs KVM; this node emulates machines")
        case .named(let name): try require(Self.isWord(name), "\(name.prefix(64).debugDescription) is not a model")
        }
        try require(features.count <= Self.mostFeatures, "\(features.count) features are more than \(Self.mostFeatures)")
        for feature in features { try require(Self.isWord(feature.name), "\(feature.name.prefix(64).debugDescription) is not a feature") }
        try require(Set(features.map(\.name)).count == features.count, "a feature is named twice")
        if let topology {
            let most = max(shape.vcpus, shape.growth?.vcpus ?? 0)
            let parts = [topology.sockets, topology.cores, topology.threads]
            try require(parts.allSatisfy { (1...255).contains($0) }, "sockets, cores and threads are each 1 to 255")
            try require(parts.reduce(1, *) == most, "sockets x cores x threads is not the \(most) vCPUs of the machine")
        }
    }

    /// Names of models and features: `Skylake-Server-noTSX-IBRS`, `sse4.1`, `svme-addr-chk`.
    private static func isWord(_ text: String) -> Bool { MachineSpec.isName(text, longest: 48) }
}
