import AsyncHTTPClient
import Concurrency
import Errors
import Foundation
import Logging
import NIOCore
import Runtime
import State

/// Images on this node: pulled from registries or loaded from files, kept as one read-only disk image per layer, or as the disk that they are.
///
/// Every method may be called at any time from any task. Errors are `SwiftletError`s.
public final class ImageStore: Sendable {
    let configuration: ImageStoreConfiguration
    let database: StateDatabase
    let layers: LayerStore
    let client: HTTPClient
    let logger: Logger
    /// Threads for what reads, writes or computes for long.
    let work: BlockingPool
    let pulls = SingleFlight<PullKey, Image>(whenAbandoned: .cancel)
    let layerPulls = SingleFlight<String, Void>(whenAbandoned: .cancel)
    let downloads: DownloadPlaces
    /// Layers being turned into disk images: work for the node's CPUs and disk, whoever they come from.
    let conversions: FairSemaphore<PullID>
    let pinned: Set<String>

    /// Threads beside those of downloads and conversions: for loads, and for publishing and deleting layers.
    private static let otherThreads = 8

    /// Pulls are joined only when they show the same credentials.
    struct PullKey: Hashable {
        var reference: ImageReference
        var auth: RegistryAuth?
    }

    /// Opens the store and cleans up what a killed run left.
    public convenience init(configuration: ImageStoreConfiguration, database: StateDatabase, logger: Logger) async throws {
        try await self.init(configuration: configuration, database: database, logger: logger, files: .disk)
    }

    init(configuration: ImageStoreConfiguration, database: StateDatabase, logger: Logger, files: LayerFiles) async throws {
        self.configuration = configuration
        self.database = database
        self.logger = logger
        work = BlockingPool("image store", threads: configuration.downloads.total + configuration.maxConversions + Self.otherThreads)
        layers = try await LayerStore(
            root: configuration.root, group: configuration.group, database: database, limits: configuration.limits,
            inspector: DiskInspector(program: configuration.diskInspector), work: work, files: files)
        downloads = DownloadPlaces(configuration.downloads)
        conversions = FairSemaphore(permits: configuration.maxConversions, perParty: configuration.maxConversions - 1)
        pinned = Set(try configuration.pinned.map { try ImageReference($0).description })
        let recovery = try await layers.recover()
        if recovery.setAside > 0 {
            logger.error(
                "the state knows no layer: the files of layers were set aside, and are deleted at the first start that knows one",
                metadata: ["files": "\(recovery.setAside)", "directory": "\(layers.lostDirectory)"])
        }
        for id in recovery.lost {
            logger.warning("image forgotten: its layers are gone from disk; pull it again", metadata: ["image": "\(id)"])
        }
        let found = try await database.images()
        var http = HTTPClient.Configuration(
            // `RegistrySession` follows them, and looks where they lead.
            redirectConfiguration: .disallow,
            timeout: .init(
                connect: TimeAmount(configuration.connectTimeout), read: TimeAmount(configuration.progressTimeout)))
        http.connectionPool.retryConnectionEstablishment = false
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: http)
        for stored in found {
            do { _ = try whole(stored) } catch { warn(of: stored, error) }
        }
        await collectAfterFailure()
    }

    /// Cancels running pulls and closes connections. Must be called before the store goes away.
    public func shutdown() async {
        await pulls.cancelAll()
        await layerPulls.cancelAll()
        do { try await client.shutdown() } catch {
            logger.debug("closing the connections to registries failed", metadata: ["error": "\(error)"])
        }
        work.close()
    }

    // MARK: Questions

    /// All images, or the one that `filter` (a reference or id) names, or those of the repository that it names. One whose records are
    /// damaged has its id and names only.
    public func list(filter: String? = nil) async throws -> [Image] {
        guard let filter, !filter.isEmpty else { return try await all() }
        if let repository = ImageReference.repository(filter) {
            let found = try await all().filter { image in
                (image.repoTags + image.repoDigests).contains { (try? ImageReference($0))?.name == repository }
            }
            if !found.isEmpty { return found }
        }
        return try await find(filter).map { [listed($0)] } ?? []
    }

    private func all() async throws -> [Image] {
        try await database.imageHeads().map { Image(id: $0.id, names: $0.names, head: try? $0.head.get(), pinned: pinned) }
    }

    /// The image that `reference` names: a tag, a digest, an id, or the beginning of exactly one id. Nil when there is none, and when
    /// its records are damaged: who needs it pulls it again, which repairs them.
    ///
    /// - Throws: `SwiftletError(.invalidArgument)` for what can be no reference, or fits several ids.
    public func status(_ reference: String) async throws -> Image? {
        guard let stored = try await find(reference) else { return nil }
        do {
            return try whole(stored).image
        } catch {
            warn(of: stored, error)
            return nil
        }
    }

    /// What the image with this id says about its processes.
    ///
    /// - Throws: `SwiftletError(.notFound)` for an unknown id, `.dataLoss` for an image whose records are damaged.
    public func config(of imageID: String) async throws -> ImageConfig { try whole(try await stored(imageID)).config }

    /// What a container's root is made of. Also for an image that was removed while leased.
    ///
    /// - Throws: `SwiftletError(.notFound)` for an unknown id, `.dataLoss` for an image whose records are damaged.
    public func rootfs(of imageID: String) async throws -> ImageRootfs {
        let stored = try await stored(imageID)
        let (image, config) = try whole(stored)
        let records = try stored.layers.map { try $0.record.get() }
        if let disk = records.first, disk.isDisk {
            return ImageRootfs(image: image, config: config, content: .disk(try layers.disk(of: disk)))
        }
        return ImageRootfs(
            image: image, config: config, content: .layers(layers.stacked(records).map { layers.image(of: records[$0]) }))
    }

    /// Where images are kept and what they take there.
    public func filesystemUsage() async throws -> (mountpoint: String, usedBytes: UInt64, inodesUsed: UInt64) {
        let layers = layers
        let (bytes, inodes) = try await work.run("measure \(configuration.root)") { _ in try layers.usage() }
        return (configuration.root, bytes, inodes)
    }

    // MARK: Removal and leases

    /// Removes an image with all its names. Nothing happens when there is none. Layers that are leased stay until they are not.
    public func remove(_ reference: String) async throws {
        guard let stored = try await find(reference) else { return }
        try await database.hideImage(id: stored.id)
        try await layers.collect()
        logger.info("image removed", metadata: ["image": "\(stored.id)", "reference": "\(reference)"])
    }

    /// Keeps the image's layers on disk until `holder` releases them. Survives restarts; idempotent.
    ///
    /// - Throws: `SwiftletError(.notFound)` for an unknown or removed image.
    public func lease(imageID: String, holder: String) async throws {
        try await database.addImageLease(imageID: imageID, holder: holder)
    }

    /// Ends all of `holder`'s leases, and removed images that nobody else holds. Idempotent.
    public func releaseLeases(holder: String) async throws {
        try await database.deleteImageLeases(holder: holder)
        try await layers.collect()
    }

    // MARK: Inside

    func find(_ reference: String) async throws -> StoredImage? {
        if reference.hasPrefix("sha256:") || reference.utf8.count == 64,
            let id = try? Digest(reference.hasPrefix("sha256:") ? reference : "sha256:\(reference)")
        {
            return try await database.image(id: id.description)
        }
        let parsed = Result { try ImageReference(reference) }
        if case .success(let reference) = parsed, let stored = try await database.image(name: reference.description) { return stored }
        let prefix = reference.hasPrefix("sha256:") ? reference.dropFirst("sha256:".count) : reference[...]
        if !prefix.isEmpty, prefix.utf8.count < 64, prefix.utf8.allSatisfy(\.isLowerHexDigit) {
            let matches = try await database.images(idPrefix: "sha256:\(prefix)")
            guard matches.count < 2 else {
                throw SwiftletError(.invalidArgument, "image id \"\(prefix)\" fits several images: give more of it")
            }
            return matches.first
        }
        _ = try parsed.get()
        return nil
    }

    private func stored(_ imageID: String) async throws -> StoredImage {
        guard let stored = try await database.imageEvenHidden(id: imageID) else {
            throw SwiftletError(.notFound, "image \(imageID.prefix(80)): not found; pull it first")
        }
        return stored
    }

    /// - Throws: `SwiftletError` when any record of the image is damaged.
    func whole(_ stored: StoredImage) throws -> (image: Image, config: ImageConfig) {
        do {
            let record = try stored.record.get()
            let layers = try stored.layers.map { try $0.record.get() }
            let disk = layers.count == 1 && layers[0].isDisk ? layers[0] : nil
            if let disk {
                guard let format = DiskImage.Format(rawValue: disk.filesystem), let digest = try? Digest(disk.digest),
                    DiskFile(digest: digest, size: UInt64(disk.sizeBytes)).key(format).description == disk.diffID
                else { throw SwiftletError(.dataLoss, "disk record cannot be read: it is known by another format or digest") }
            }
            // A disk without a configuration has the id that the store knows its file by.
            guard disk?.diffID == stored.id || Digest(of: record.config).description == stored.id else {
                throw SwiftletError(.dataLoss, "image record cannot be read: config has another digest than the image")
            }
            // The decoder's error would quote the configuration, which may hold secrets.
            guard let config = try? JSONDocument.decode(ImageConfig.self, from: record.config, "") else {
                throw SwiftletError(.dataLoss, "image record cannot be read: config is no image configuration")
            }
            let diffIDs = layers.map(\.diffID)
            let fixedUp = config.diffIDs + [FixupLayer.id(of: config.diffIDs).description]
            guard !layers.isEmpty, disk != nil || diffIDs == config.diffIDs || diffIDs == fixedUp else {
                throw SwiftletError(.dataLoss, "image record cannot be read: its layers are not those of its configuration")
            }
            return (Image(id: stored.id, names: stored.names, head: ImageHead(record), pinned: pinned), config)
        } catch {
            throw SwiftletError.wrap(error, "image \(stored.id.prefix(80)): damaged, remove it or pull it again")
        }
    }

    /// The image, or what is left of one: it can be removed, which frees its layers.
    private func listed(_ stored: StoredImage) -> Image {
        Image(id: stored.id, names: stored.names, head: (try? stored.record.get()).map { ImageHead($0) }, pinned: pinned)
    }

    private func warn(of stored: StoredImage, _ error: any Error) {
        logger.warning("image cannot be used", metadata: ["image": "\(stored.id)", "error": "\(error)"])
    }

    /// Gives up layers that no image has, after a start or a failed pull. What fails here is collected with the next removal or start.
    func collectAfterFailure() async {
        do { try await layers.collect() } catch {
            logger.warning("layers that no image has could not be deleted yet", metadata: ["error": "\(error)"])
        }
    }

    /// Records an image whose layers are all in place and held, the fix-up layer that their stack may need held too. They may hold a disk,
    /// which is then the image.
    func register(id: Digest, bytes: Data, _ config: ImageConfig, names: [ImageNameRecord], _ share: PullShare) async throws -> Image {
        if let disk = try await takeContainerDisk(config, id: id, bytes: bytes, names: names, share) { return disk }
        var diffIDs = config.diffIDs
        if let fixup = try await fixup(id: id, diffIDs, share) { diffIDs.append(fixup.diffID) }
        return try whole(
            try await database.addImage(id: id.description, config: bytes, user: config.user, layers: diffIDs, names: names)
        ).image
    }

    /// Layers that an image needs while it is taken in: its own, and the fix-up layer of their stack.
    static func layers(of config: ImageConfig) -> [String] {
        config.diffIDs + [FixupLayer.id(of: config.diffIDs).description]
    }

    private func fixup(id: Digest, _ diffIDs: [String], _ share: PullShare) async throws -> LayerRecord? {
        let fixupID = FixupLayer.id(of: diffIDs)
        if let known = try await layers.find(fixupID) { return known }
        // Taken in before, and found to need none.
        if let known = try await database.image(id: id.description), (try? whole(known)) != nil { return nil }
        try await layerPulls.run("\(fixupID)") { [self] in
            try await conversions.withPermit(for: share.id) { [self] in
                if try await layers.find(fixupID) != nil { return }
                var records: [LayerRecord] = []
                for diffID in diffIDs {
                    guard let record = try await layers.find(try Digest(diffID)) else {
                        throw SwiftletError(.internal, "layer \(diffID) is gone before the image was recorded")
                    }
                    records.append(record)
                }
                _ = try await layers.addFixup(fixupID, of: records)
            }
        }
        return try await layers.find(fixupID)
    }
}
