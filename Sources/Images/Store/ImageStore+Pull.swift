import Errors
import Foundation
import Linux
import Measures
import State
import Synchronization

extension ImageStore {
    /// Fetches an image, or learns that it is here already, and gives it the name `reference`.
    ///
    /// Equal pulls in flight are one; so are equal layers of different images. A cancelled pull ends when nobody else waits
    /// for it. On failure nothing new is left on disk or in the database.
    /// - Throws: `SwiftletError`: `.invalidArgument` for a bad reference, `.notFound`, `.unauthenticated`, `.permissionDenied`,
    ///   `.resourceExhausted`, `.failedPrecondition` (no image for this machine), `.dataLoss` (the registry's content is not what
    ///   it says), `.unavailable` with a message beginning `RegistryUnavailable: `, which the kubelet looks for.
    public func pull(_ reference: String, auth: RegistryAuth? = nil) async throws -> Image {
        let reference = try ImageReference(reference)
        do {
            return try await pulls.run(PullKey(reference: reference, auth: auth)) { [self] in
                try await measured("swiftlet_image_pull") { try await fetch(reference, auth: auth) }
            }
        } catch {
            let error = SwiftletError.wrap(error, "pull \(reference)")
            guard error.code == .unavailable else { throw error }
            throw SwiftletError(.unavailable, "RegistryUnavailable: \(error.message)", cause: error.cause)
        }
    }

    private func fetch(_ reference: ImageReference, auth: RegistryAuth?) async throws -> Image {
        if let source = try configuration.disks.source(of: reference) { return try await fetchDisk(source, reference) }
        let (session, bytes, contentType) = try await firstManifest(reference, auth: auth)
        let digest = Digest(of: bytes)
        if let wanted = reference.digest, wanted != digest {
            throw SwiftletError(.dataLoss, "manifest from \(session.endpoint.host): it has the digest \(digest), not the one asked for")
        }
        let manifest = try await imageManifest(ManifestDocument(bytes, contentType: contentType, what: "\(reference)"), session, reference)
        if MediaType.isArtifact(manifest) {
            if let known = try await known(digest, reference) { return known }
            return try await fetchArtifact(manifest, digest: digest, session, reference)
        }
        let configBytes = try await session.smallBlob(manifest.config, limit: ImageConfig.maximumBytes, what: "configuration")
        let config = try ImageConfig.decode(configBytes, what: "\(reference)")
        guard config.diffIDs.count == manifest.layers.count else {
            throw SwiftletError(
                .dataLoss,
                "\(manifest.layers.count) layers in the manifest, \(config.diffIDs.count) in the configuration; they must be as many"
            )
        }

        let names = names(reference, digest, try Digest(manifest.config.digest))
        if let known = try await knownDisk(try Digest(manifest.config.digest), names: names) { return known }
        let share = PullShare(configuration)
        let held = Self.layers(of: config)
        layers.claims.hold(held)
        do {
            try await withThrowingTaskGroup { group in
                for (descriptor, diffID) in Dictionary(zip(config.diffIDs, manifest.layers), uniquingKeysWith: { first, _ in first }).map({
                    ($1, $0)
                }) {
                    group.addTask { try await self.fetchLayer(descriptor, diffID: try Digest(diffID), session, share) }
                }
                // Not `waitForAll`, which lets the others go on to their end.
                for try await _ in group {}
            }
            let id = try Digest(manifest.config.digest)
            let image = try await register(id: id, bytes: configBytes, config, names: names, share)
            layers.claims.release(held)
            await forgetLayersOfDisk(image)
            logger.info("image pulled", metadata: ["reference": "\(reference)", "image": "\(image.id)"])
            return image
        } catch {
            // Layers that did arrive have no image: give them up.
            layers.claims.release(held)
            await collectAfterFailure()
            throw error
        }
    }

    /// The answer of the first endpoint that has the reference, and the session to go on with.
    private func firstManifest(
        _ reference: ImageReference, auth: RegistryAuth?
    ) async throws -> (session: RegistrySession, bytes: Data, contentType: String?) {
        let endpoints = RegistryEndpoint.all(for: reference.host, configuration.registries)
        let version = reference.digest?.description ?? reference.tag ?? ImageReference.defaultTag
        var mirrors: [String] = []
        for endpoint in endpoints {
            let session = RegistrySession(
                endpoint: endpoint, repository: reference.path, auth: auth, client: client, configuration: configuration,
                resolve: { [work] host in
                    try await work.run("resolve \(host)", timeout: .seconds(30)) { _ in try RegistryDestinations.lookUp(host) }
                })
            do {
                let (bytes, contentType) = try await session.manifest(version)
                return (session, bytes, contentType)
            } catch let error as SwiftletError where error.code != .cancelled {
                guard endpoint.isMirror else { throw mirrors.isEmpty ? error : error.appending("and \(mirrors.joined(separator: "; "))") }
                logger.info("mirror does not help", metadata: ["mirror": "\(endpoint.host)", "error": "\(error)"])
                mirrors.append("mirror \(endpoint.host): \(error)")
            }
        }
        throw SwiftletError(.internal, "no endpoint for \(reference.host)")
    }

    /// Goes from an index to the manifest for this machine.
    private func imageManifest(
        _ document: ManifestDocument, _ session: RegistrySession, _ reference: ImageReference
    ) async throws -> Manifest {
        var search = ManifestSearch(platform: .current, cpuLevel: CPULevel.machines, what: "\(reference)")
        var found = search.take(document)
        while true {
            if let found {
                guard search.mustCheckConfiguration else { return found }
                let config = try await session.smallBlob(found.config, limit: ImageConfig.maximumBytes, what: "configuration")
                if try ImageConfig.decode(config, what: "\(reference)").runs(on: .current) { return found }
            }
            found = search.take(try await manifest(search.next(), session, reference))
        }
    }

    private func manifest(
        _ descriptor: Descriptor, _ session: RegistrySession, _ reference: ImageReference
    ) async throws -> ManifestDocument {
        let digest = try Digest(descriptor.digest)
        let (bytes, contentType) = try await session.manifest(digest.description)
        let found = Digest(of: bytes)
        guard found == digest, bytes.count == descriptor.size else {
            let what = "\(bytes.count) bytes with the digest \(found); the index announces \(descriptor.size) bytes"
            throw SwiftletError(.dataLoss, "manifest \(digest) from \(session.endpoint.host): \(what)")
        }
        return try ManifestDocument(bytes, contentType: contentType, what: "\(reference)")
    }

    private func fetchLayer(_ descriptor: Descriptor, diffID: Digest, _ session: RegistrySession, _ share: PullShare) async throws {
        let name = "layer \(descriptor.digest)"
        guard let compression = descriptor.mediaType.flatMap(MediaType.compression(ofLayer:)) else {
            throw SwiftletError(.dataLoss, "\(name): media type \"\(descriptor.mediaType?.prefix(200) ?? "")\" is not that of a layer")
        }
        // Only pulls from the same registry are joined, so that nobody waits for somebody else's slow one.
        let isOwn = Atomic(false)
        do {
            try await layerPulls.run("\(session.endpoint.origin) \(diffID) \(descriptor.digest)") { [self] in
                isOwn.store(true, ordering: .relaxed)
                try await fetchAlone(descriptor, diffID: diffID, compression, session, share, name)
            }
        } catch let error as SwiftletError where error.code != .cancelled && !isOwn.load(ordering: .relaxed) {
            // It failed for the other pull, whose repository or credentials may be the reason.
            try await fetchAlone(descriptor, diffID: diffID, compression, session, share, name)
        }
    }

    private func fetchAlone(
        _ descriptor: Descriptor, diffID: Digest, _ compression: Compression, _ session: RegistrySession, _ share: PullShare,
        _ name: String
    ) async throws {
        if try await layers.find(diffID) != nil { return }
        try await share.layers.withPermit { [self] in
            try await download(descriptor, session, share) { try await convert($0, compression, diffID: diffID, share, name: name) }
        }
    }

    /// Fetches a blob for the time of `use`.
    func download<Value: Sendable>(
        _ descriptor: Descriptor, _ session: RegistrySession, _ share: PullShare, _ use: @Sendable (BlobSource) async throws -> Value
    ) async throws -> Value {
        let path = layers.partialPath("blob")
        do {
            let download = BlobDownload(
                session: session, descriptor: descriptor, configuration: configuration, throughput: share.throughput, work: work)
            let blob = try await downloads.withPlace(host: session.endpoint.host, pull: share.id) { try await download.run(to: path) }
            let value = try await use(blob)
            await work.discard(path)
            return value
        } catch {
            await work.discard(path)
            throw error
        }
    }

    /// Turns a blob into the layer `diffID`, one of so many at a time.
    func convert(_ blob: BlobSource, _ compression: Compression?, diffID: Digest, _ share: PullShare, name: String) async throws {
        try await conversions.withPermit(for: share.id) { [self] in
            if try await layers.find(diffID) != nil { return }
            try await layers.add(blob, compression: compression, diffID: diffID, name: name)
        }
    }
}
