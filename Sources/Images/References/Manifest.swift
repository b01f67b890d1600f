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

    static let manifests = [ociIndex, ociManifest, dockerList, dockerManifest]

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
struct Descriptor: Codable, Sendable, Equatable {
    struct Platform: Codable, Sendable, Equatable {
        var architecture: String
        var os: String
        var variant: String?
    }

    var mediaType: String?
    var digest: String
    var size: Int64
    var platform: Platform?
    var annotations: [String: String]?
}

/// An image manifest, OCI or Docker.
struct Manifest: Codable, Sendable {
    var schemaVersion: Int
    var mediaType: String?
    var config: Descriptor
    var layers: [Descriptor]
}

/// A manifest list (Docker) or index (OCI).
struct ManifestIndex: Codable, Sendable {
    var schemaVersion: Int
    var mediaType: String?
    var manifests: [Descriptor]
}

/// Either kind of document a registry answers for a reference.
enum ManifestDocument: Sendable {
    case manifest(Manifest)
    case index(ManifestIndex)

    /// More than any container runtime accepts in one overlay.
    static let maximumLayers = 127
    /// The distribution spec asks registries to accept manifests of 4 MiB.
    static let maximumBytes = 4 << 20

    private struct Shape: Codable {
        struct Anything: Codable {}
        var schemaVersion: Int?
        var mediaType: String?
        var manifests: [Anything]?
        var layers: [Anything]?
    }

    /// - Parameter contentType: what the registry said it is; must not contradict the document.
    /// - Throws: `SwiftletError(.dataLoss)` for what is no manifest, `.unimplemented` for Docker's schema 1.
    init(_ bytes: Data, contentType: String?, what: String) throws {
        let shape = try JSONDocument.decode(Shape.self, from: bytes, "manifest of \(what): not a JSON document of an image")
        if shape.schemaVersion == 1 {
            throw SwiftletError(
                .unimplemented, "manifest of \(what): Docker schema 1 is not supported; push the image again with a current tool")
        }
        let declared = shape.mediaType ?? contentType.flatMap { MediaType.manifests.contains($0) ? $0 : nil }
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

extension Platform {
    /// The descriptor of an index to take.
    ///
    /// - Throws: `SwiftletError(.failedPrecondition)` listing what the image is there for instead.
    func choose(from index: ManifestIndex, what: String) throws -> Descriptor {
        let images = index.manifests.filter { $0.mediaType.map(MediaType.manifests.contains) ?? true }
        if let match = images.first(where: { $0.platform?.os == os && $0.platform?.architecture == architecture }) { return match }
        if images.count == 1, images[0].platform == nil { return images[0] }
        let platforms = images.compactMap(\.platform).prefix(20).map { "\($0.os)/\($0.architecture)" }
        let offered = platforms.isEmpty ? "nothing named" : platforms.joined(separator: ", ")
        throw SwiftletError(
            .failedPrecondition,
            "image \(what): no manifest for \(os)/\(architecture); it is there for \(offered)")
    }
}
