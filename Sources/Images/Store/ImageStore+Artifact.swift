import Errors
import Foundation
import State

extension ImageStore {
    private static let titleName = "org.opencontainers.image.title"

    /// Takes in content that has no image configuration, for image volumes: OCI image spec, "Guidelines for Artifact Usage". Its layers are
    /// what their media types say: tars are unpacked, anything else is a file by the name in its title.
    ///
    /// - Parameter digest: of what the reference names.
    func fetchArtifact(
        _ manifest: Manifest, digest: Digest, _ session: RegistrySession, _ reference: ImageReference
    ) async throws -> Image {
        guard manifest.layers.count <= ManifestDocument.maximumLayers else {
            throw SwiftletError(
                .invalidArgument,
                "artifact \(reference): \(manifest.layers.count) layers, at most \(ManifestDocument.maximumLayers) can be stacked")
        }
        let share = PullShare(configuration)
        if manifest.layers.count == 1, let title = Self.diskTitle(of: manifest.layers[0]) {
            return try await fetchDisk(manifest.layers[0], titled: title, digest: digest, session, reference, share)
        }
        var held: [String] = []
        do {
            for descriptor in manifest.layers {
                let diffID = try await share.layers.withPermit { [self] in
                    try await download(descriptor, session, share) { blob in
                        let content = try Self.content(blob, descriptor)
                        return try await conversions.withPermit(for: share.id) { [self] in
                            try await layers.addUnnamed(content, name: "layer \(descriptor.digest)")
                        }
                    }
                }
                held.append(diffID.description)
            }
            let config = ImageConfig(os: "", diffIDs: held)
            // Its digest is the image's id, and of this manifest alone.
            let bytes = try JSONSerialization.data(
                withJSONObject: ["manifest": digest.description, "rootfs": ["diff_ids": held]], options: [.sortedKeys])
            let fixup = FixupLayer.id(of: held).description
            layers.claims.hold([fixup])
            held.append(fixup)
            let id = Digest(of: bytes)
            let image = try await register(id: id, bytes: bytes, config, names: names(reference, digest, id), share)
            layers.claims.release(held)
            logger.info("artifact pulled", metadata: ["reference": "\(reference)", "image": "\(image.id)"])
            return image
        } catch {
            layers.claims.release(held)
            await collectAfterFailure()
            throw error
        }
    }

    /// The image that was taken in from this very manifest; it gets the name as well.
    func known(_ digest: Digest, _ reference: ImageReference) async throws -> Image? {
        guard let stored = try await database.image(name: "\(reference.name)@\(digest)"), let found = try? whole(stored),
            let record = try? stored.record.get()
        else { return nil }
        let diffIDs = stored.layers.map(\.diffID)
        layers.claims.hold(diffIDs)
        defer { layers.claims.release(diffIDs) }
        let image = try await database.addImage(
            id: stored.id, config: record.config, user: found.config.user, layers: diffIDs,
            names: names(reference, digest, try Digest(stored.id)))
        return try whole(image).image
    }

    /// The names that a pull of `reference`, which is `digest`, gives to an image.
    func names(_ reference: ImageReference, _ digest: Digest, _ id: Digest) -> [ImageNameRecord] {
        let byDigest = ImageNameRecord(name: "\(reference.name)@\(digest)", isDigest: true, imageID: id.description)
        guard reference.digest == nil else { return [byDigest] }
        return [byDigest, ImageNameRecord(name: reference.description, isDigest: false, imageID: id.description)]
    }

    /// The title of a layer that is a disk and not a file for image volumes; nil for any other.
    private static func diskTitle(of layer: Descriptor) -> String? {
        guard layer.mediaType.flatMap(MediaType.compression(ofLayer:)) == nil else { return nil }
        let title = layer.annotations[titleName] ?? ""
        return DiskFileName(title).isDisk || layer.mediaType?.contains("qcow2") == true ? title : nil
    }

    private func fetchDisk(
        _ layer: Descriptor, titled title: String, digest: Digest, _ session: RegistrySession, _ reference: ImageReference,
        _ share: PullShare
    ) async throws -> Image {
        let name = DiskFileName(title)
        let limits = configuration.limits
        let isQcow = name.format == .qcow2 || layer.mediaType?.contains("qcow2") == true
        let why = title.isEmpty ? "its media type" : "its title \(quoted(title))"
        let record = try await download(layer, session, share) { blob in
            try await conversions.withPermit(for: share.id) { [self] in
                try await layers.addDisk(
                    saidToBe: isQcow ? .qcow2 : nil, name: "layer \(layer.digest), which is a disk by \(why)"
                ) { path, call in
                    try DiskFile.copy(
                        blob, decompressing: name.isCompressed, to: path, limits: limits, isCancelled: { call.isCancelled })
                }
            }
        }
        let image = try await holding(record) {
            try await register(record, DiskOrigin { [self] id, _ in names(reference, digest, id) })
        }
        logger.info("disk image pulled", metadata: ["reference": "\(reference)", "image": "\(image.id)"])
        return image
    }

    private static func content(_ blob: BlobSource, _ descriptor: Descriptor) throws -> LayerConverter.Content {
        if let compression = descriptor.mediaType.flatMap(MediaType.compression(ofLayer:)) { return .tar(blob, compression) }
        let digest = try Digest(descriptor.digest)
        let title = descriptor.annotations[titleName] ?? ""
        return .file(blob, name: title.isEmpty ? digest.hex : title, digest: digest)
    }
}
