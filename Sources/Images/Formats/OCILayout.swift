import Errors
import Foundation
import Linux

/// An OCI image layout, as a directory or in a tar: OCI image spec, image layout.
enum OCILayout: ImageFormat {
    static let name = "OCI layout"

    private static let containerdName = "io.containerd.image.name"
    private static let referenceName = "org.opencontainers.image.ref.name"

    static func images(in archive: ImageArchive, platform: Platform) throws -> [ArchivedImage]? {
        guard archive.file("oci-layout") != nil, archive.file("index.json") != nil else { return nil }
        let what = "\(archive.path): index.json"
        let bytes = try archive.contents("index.json", limit: ManifestDocument.maximumBytes)
        guard case .index(let index) = try ManifestDocument(bytes, contentType: MediaType.ociIndex, what: what) else {
            throw SwiftletError(.dataLoss, "\(what): it is no index")
        }
        var budget = ArchiveBudget(path: archive.path)
        return try index.manifests.map { try image($0, archive, platform, &budget) }
    }

    private static func image(
        _ top: Descriptor, _ archive: ImageArchive, _ platform: Platform, _ budget: inout ArchiveBudget
    ) throws -> ArchivedImage {
        let manifest = try manifest(top, archive, platform, &budget)
        try budget.addImage(layers: manifest.layers.count)
        let layers = try manifest.layers.map { descriptor in
            guard let compression = descriptor.mediaType.flatMap(MediaType.compression(ofLayer:)) else {
                throw SwiftletError(
                    .dataLoss,
                    "\(archive.path): layer \(descriptor.digest): media type \"\(descriptor.mediaType ?? "")\" is not that of a layer")
            }
            return ArchivedImage.Layer(
                name: "\(archive.path): layer \(descriptor.digest)", blob: try blob(descriptor, archive), compression: compression)
        }
        let config = try verified(manifest.config, archive, limit: ImageConfig.maximumBytes, &budget)
        return ArchivedImage(
            references: try reference(top, archive).map { [$0] } ?? [], manifestDigest: try Digest(top.digest), config: config,
            layers: layers)
    }

    private static func manifest(
        _ top: Descriptor, _ archive: ImageArchive, _ platform: Platform, _ budget: inout ArchiveBudget
    ) throws -> Manifest {
        var search = ManifestSearch(platform: platform, cpuLevel: CPULevel.machines, what: archive.path)
        var found = search.take(try document(top, archive, &budget))
        while true {
            if let found {
                guard search.mustCheckConfiguration else { return found }
                let config = try verified(found.config, archive, limit: ImageConfig.maximumBytes, &budget)
                if try ImageConfig.decode(config, what: archive.path).runs(on: platform) { return found }
            }
            found = search.take(try document(search.next(), archive, &budget))
        }
    }

    /// A full name if the archive has one; a mere tag is combined with the archive's file name.
    private static func reference(_ descriptor: Descriptor, _ archive: ImageArchive) throws -> ImageReference? {
        if let name = descriptor.annotations[containerdName] { return try ImageReference(name) }
        guard let name = descriptor.annotations[referenceName] else { return nil }
        if name.contains("/") || name.contains(":") { return try ImageReference(name) }
        let stem = archive.path.split(separator: "/").last?.prefix { $0 != "." } ?? ""
        return try? ImageReference("\(stem.lowercased()):\(name)")
    }

    private static func document(
        _ descriptor: Descriptor, _ archive: ImageArchive, _ budget: inout ArchiveBudget
    ) throws -> ManifestDocument {
        try ManifestDocument(
            verified(descriptor, archive, limit: ManifestDocument.maximumBytes, &budget), contentType: descriptor.mediaType,
            what: archive.path)
    }

    private static func verified(
        _ descriptor: Descriptor, _ archive: ImageArchive, limit: Int, _ budget: inout ArchiveBudget
    ) throws -> Data {
        let what = "\(archive.path): blob \(descriptor.digest)"
        let bytes = try blob(descriptor, archive).contents(limit: limit, what: what)
        try budget.addDocument(bytes: bytes.count)
        let found = Digest(of: bytes)
        guard found == (try Digest(descriptor.digest)) else {
            throw SwiftletError(.dataLoss, "\(what): the content has the digest \(found)")
        }
        return bytes
    }

    private static func blob(_ descriptor: Descriptor, _ archive: ImageArchive) throws -> BlobSource {
        let digest = try Digest(descriptor.digest)
        guard let source = archive.file("blobs/sha256/\(digest.hex)") else {
            throw SwiftletError(.dataLoss, "\(archive.path): blob \(digest) is missing")
        }
        guard Int64(exactly: source.length) == descriptor.size else {
            throw SwiftletError(.dataLoss, "\(archive.path): blob \(digest) has \(source.length) bytes, \(descriptor.size) are announced")
        }
        return source
    }
}
