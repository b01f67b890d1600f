import Errors
import Linux

/// The way from what a reference names to the manifest for one platform: through indexes, and indexes in them, the best entry first.
///
/// Usage: `take` each document, `next` says which one to get, until `take` returns a manifest.
struct ManifestSearch {
    private struct Candidate {
        var descriptor: Descriptor
        /// Whether the manifest has to say itself what it is for.
        var isUnnamed: Bool
        /// Indexes around it.
        var depth: Int
    }

    private let platform: Platform
    private let cpuLevel: Int
    private let what: String
    /// The best last.
    private var candidates: [Candidate] = []
    private var offered: [String] = []
    private var documents = 0
    private var depth = 0
    /// The manifest taken last is one of several without a platform: its configuration decides.
    private(set) var mustCheckConfiguration = false

    /// An image for many platforms has two: one index, and one for each platform in it.
    private static let maximumDepth = 4
    private static let maximumDocuments = 32

    /// - Parameters:
    ///   - cpuLevel: the `n` of the psABI's x86-64-v`n` that machines have.
    ///   - what: the image, for messages.
    init(platform: Platform, cpuLevel: Int, what: String) {
        self.platform = platform
        self.cpuLevel = cpuLevel
        self.what = what
    }

    /// The manifest, or nil when `document` is an index, whose entries are looked at next.
    mutating func take(_ document: ManifestDocument) -> Manifest? {
        guard case .index(let index) = document else {
            if case .manifest(let manifest) = document { return manifest }
            return nil
        }
        let images = index.manifests.filter { ($0.mediaType.map(MediaType.manifests.contains) ?? true) && !$0.isAttestation }
        for case let platform? in images.map(\.platform) {
            offered.append("\(platform.os)/\(platform.architecture)" + (platform.variant.isEmpty ? "" : "/\(platform.variant)"))
        }
        let named = images.compactMap { image in image.platform.flatMap(rank).map { (image, $0) } }
        // `sorted` keeps the order of equals.
        let best = named.sorted { $0.1 > $1.1 }.map { Candidate(descriptor: $0.0, isUnnamed: false, depth: depth + 1) }
        let unnamed = images.filter { $0.platform == nil }
        let rest = unnamed.map { Candidate(descriptor: $0, isUnnamed: images.count > 1, depth: depth + 1) }
        candidates += (best + rest).reversed()
        return nil
    }

    /// What to get next.
    ///
    /// - Throws: `SwiftletError(.failedPrecondition)` listing what the image is there for instead, `.resourceExhausted` when its indexes
    ///   lead too far.
    mutating func next() throws -> Descriptor {
        guard let candidate = candidates.popLast() else {
            let names = offered.isEmpty ? "nothing named" : offered.prefix(20).joined(separator: ", ")
            throw SwiftletError(
                .failedPrecondition,
                "image \(what): no manifest for \(platform.os)/\(platform.architecture); it is there for \(printable(names, limit: 600))")
        }
        documents += 1
        guard candidate.depth <= Self.maximumDepth, documents <= Self.maximumDocuments else {
            throw SwiftletError(
                .resourceExhausted,
                "image \(what): more than \(Self.maximumDepth) indexes within each other, or \(Self.maximumDocuments) manifests to look at")
        }
        depth = candidate.depth
        mustCheckConfiguration = candidate.isUnnamed
        return candidate.descriptor
    }

    /// How well an entry fits; nil: not at all.
    private func rank(_ entry: Descriptor.Platform) -> Int? {
        guard entry.os.isEmpty || entry.os == platform.os, entry.architecture == platform.architecture else { return nil }
        // Of other architectures a registry's variant says what every machine of 64 bits has ("v8").
        guard !entry.variant.isEmpty, platform.architecture == "amd64" else { return 1 }
        guard entry.variant.first == "v", let level = Int(entry.variant.dropFirst()), level <= cpuLevel else { return nil }
        return level
    }
}

/// The psABI's levels of x86-64 ("x86-64 psABI", section 3.1.1).
enum CPULevel {
    private static let flags: [[Substring]] = [
        ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"],
        ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"],
    ]

    /// That of machines on this node. Machines have the node's CPU, or QEMU's emulation, which has level 3 and no more.
    static let machines = of(cpuinfo: KernelFile.text("/proc/cpuinfo") ?? "")

    /// - Parameter cpuinfo: the text of /proc/cpuinfo.
    static func of(cpuinfo: String) -> Int {
        let line = cpuinfo.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
        let present = Set(line.split { $0 == " " || $0 == "\t" })
        return 1 + flags.prefix { $0.allSatisfy(present.contains) }.count
    }
}
