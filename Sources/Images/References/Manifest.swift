import Errors
import Foundation
import Linux

/// Media types of the OCI image spec 1.1 and of Docker's image manifest version 2, schema 2.
enum MediaType {
    static let ociIndex = "application/vnd.oci.image.index.v1+json"
    static let ociManifest = "application/vnd.oci.image.manifest.v1+json"
    static let ociConfig = "application/vnd.oci.image.config.v1+json"
    static let dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"
    static let dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
    static let dockerConfig = "application/vnd.docker.container.image.v1+json"

    static let emptyConfig = "application/vnd.oci.empty.v1+json"

    static let manifests = [ociIndex, ociManifest, dockerList, dockerManifest]

    /// Whether a manifest's configuration is that of no image, as its media type says. Old tools give images no type, or one that says
    /// nothing.
    static func isArtifact(_ manifest: Manifest) -> Bool {
        guard let type = manifest.config.mediaType, type != ociConfig, type != dockerConfig else { return false }
        return type.hasPrefix("application/vnd.")
    }

    /// How a layer of this media type is compressed, or nil when it is no layer.
    static func compression(ofLayer mediaType: String) -> Compression? {
        switch mediaType {
        case "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar":
            .uncompressed
        case "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
            .gzip
        case "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.zstd":
            .zstd
        default: nil
        }
    }
}

/// The compression of a layer's blob.
enum Compression: String, Sendable {
    case uncompressed, gzip, zstd

    /// What the first bytes of a blob say.
    init(magic bytes: some Collection<UInt8>) {
        if bytes.starts(with: [0x1f, 0x8b]) {
            self = .gzip
        } else if bytes.starts(with: [0x28, 0xb5, 0x2f, 0xfd]) {
            self = .zstd
        } else {
            self = .uncompressed
        }
    }
}

/// A pointer to content: OCI image spec, descriptor.
struct Descriptor: Sendable, Equatable {
    struct Platform: Sendable, Equatable {
        var architecture: String
        var os: String
        var variant: String
    }

    var mediaType: String?
    var digest: String
    var size: Int64
    var platform: Platform?
    var annotations: [String: String] = [:]
}

extension Descriptor: Decodable {
    fileprivate enum CodingKeys: String, CodingKey, CaseIterable { case mediaType, digest, size, platform, annotations }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        mediaType = try fields.decodeIfPresent(String.self, forKey: .mediaType).flatMap { $0.isEmpty ? nil : $0 }
        digest = try fields.decode(String.self, forKey: .digest)
        size = try fields.decodeIfPresent(Int64.self, forKey: .size) ?? 0
        platform = try fields.decodeIfPresent(Platform.self, forKey: .platform).flatMap { $0.isEmpty ? nil : $0 }
        annotations = (try fields.decodeIfPresent([String: String?].self, forKey: .annotations) ?? [:]).mapValues { $0 ?? "" }
    }

    /// What buildkit puts beside an image about how it was made; no image itself.
    var isAttestation: Bool {
        annotations["vnd.docker.reference.type"] == "attestation-manifest"
            || platform?.os == "unknown" && platform?.architecture == "unknown"
    }
}

extension Descriptor.Platform: Decodable {
    fileprivate enum CodingKeys: String, CodingKey, CaseIterable { case architecture, os, variant }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        architecture = try fields.decodeIfPresent(String.self, forKey: .architecture) ?? ""
        os = try fields.decodeIfPresent(String.self, forKey: .os) ?? ""
        variant = try fields.decodeIfPresent(String.self, forKey: .variant) ?? ""
    }

    var isEmpty: Bool { architecture.isEmpty && os.isEmpty }
}

/// An image manifest, OCI or Docker.
struct Manifest: Sendable {
    var config: Descriptor
    var layers: [Descriptor]
}

extension Manifest: JSONFields {
    private enum CodingKeys: String, CodingKey, CaseIterable { case config, layers }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        config = try fields.decode(Descriptor.self, forKey: .config)
        layers = try fields.decodeIfPresent([Descriptor].self, forKey: .layers) ?? []
    }

    static var fields: [String] { CodingKeys.allCases.map(\.rawValue) + Descriptor.fields }
}

/// A manifest list (Docker) or index (OCI).
struct ManifestIndex: Sendable {
    var manifests: [Descriptor]
}

extension ManifestIndex: JSONFields {
    private enum CodingKeys: String, CodingKey, CaseIterable { case manifests }

    init(from decoder: any Decoder) throws {
        manifests = try decoder.container(keyedBy: CodingKeys.self).decodeIfPresent([Descriptor].self, forKey: .manifests) ?? []
    }

    static var fields: [String] { CodingKeys.allCases.map(\.rawValue) + Descriptor.fields }
}

extension Descriptor: JSONFields {
    static var fields: [String] { CodingKeys.allCases.map(\.rawValue) + Platform.CodingKeys.allCases.map(\.rawValue) }
}

/// Either kind of document a registry answers for a reference.
enum ManifestDocument: Sendable {
    case manifest(Manifest)
    case index(ManifestIndex)

    /// More than any container runtime accepts in one overlay.
    static let maximumLayers = 127
    /// The distribution spec asks registries to accept manifests of 4 MiB.
    static let maximumBytes = 4 << 20

    private struct Shape: JSONFields {
        struct Anything: Decodable {}
        enum CodingKeys: String, CodingKey, CaseIterable { case schemaVersion, mediaType, manifests, layers }

        var schemaVersion: Int?
        var mediaType: String?
        var manifests: [Anything]?
        var layers: [Anything]?

        static var fields: [String] { CodingKeys.allCases.map(\.rawValue) }
    }

    /// - Parameter contentType: what the registry said it is; must not contradict the document.
    /// - Throws: `SwiftletError(.dataLoss)` for what is no manifest, `.unimplemented` for Docker's schema 1.
    init(_ bytes: Data, contentType: String?, what: String) throws {
        let shape = try JSONDocument.decode(Shape.self, from: bytes, "manifest of \(what): not a JSON document of an image")
        if shape.schemaVersion == 1 {
            throw SwiftletError(
                .unimplemented, "manifest of \(what): Docker schema 1 is not supported; push the image again with a current tool")
        }
        let own = shape.mediaType.flatMap { $0.isEmpty ? nil : $0 }
        let declared = own ?? contentType.flatMap { MediaType.manifests.contains($0) ? $0 : nil }
        let isIndex = declared.map { $0 == MediaType.ociIndex || $0 == MediaType.dockerList } ?? (shape.manifests != nil)
        if let declared, !MediaType.manifests.contains(declared) {
            throw SwiftletError(.dataLoss, "manifest of \(what): media type \"\(declared.prefix(200))\" is not that of an image")
        }
        guard shape.manifests == nil || shape.layers == nil, shape.schemaVersion == 2 else {
            throw SwiftletError(.dataLoss, "manifest of \(what): it is neither a manifest nor an index")
        }
        let bad = "manifest of \(what): not that of an image"
        self =
            isIndex
            ? .index(try JSONDocument.decode(ManifestIndex.self, from: bytes, bad))
            : .manifest(try JSONDocument.decode(Manifest.self, from: bytes, bad))
    }
}
