import AsyncHTTPClient
import Concurrency
import Errors
import Foundation
import Logging
import NIOCore
import State

/// Images on this node: pulled from registries or loaded from archives, kept as one read-only disk image per layer.
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
            root: configuration.root, database: database, limits: configuration.limits, work: work, files: files)
        downloads = DownloadPlaces(configuration.downloads)
        conversions = FairSemaphore(permits: configuration.maxConversions, perParty: configuration.maxConversions - 1)
        pinned = Set(try configuration.pinned.map { try ImageReference($0).description })
        for id in try await layers.recover() {
            logger.warning("image forgotten: its layers are gone from disk; pull it again", metadata: ["image": "\(id)"])
        }
        var http = HTTPClient.Configuration(
            redirectConfiguration: .follow(max: 5, allowCycles: false),
            timeout: .init(
                connect: TimeAmount(configuration.connectTimeout), read: TimeAmount(configuration.progressTimeout)))
        http.connectionPool.retryConnectionEstablishment = false
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: http)
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

    /// All images, or the one that `filter` (a reference or id) names.
    public func list(filter: String? = nil) async throws -> [Image] {
        if let filter, !filter.isEmpty { return try await status(filter).map { [$0] } ?? [] }
        return try await database.images().map(image)
    }

    /// The image that `reference` names: a tag, a digest, an id, or the beginning of exactly one id. Nil when there is none.
    ///
    /// - Throws: `SwiftletError(.invalidArgument)` for what can be no reference, or fits several ids.
    public func status(_ reference: String) async throws -> Image? {
        try await find(reference).map(image)
    }

    /// What a container's root is made of. Also for an image that was removed while leased.
    ///
    /// - Throws: `SwiftletError(.notFound)` for an unknown id.
    public func rootfs(of imageID: String) async throws -> ImageRootfs {
        let records = try await database.layers(imageID: imageID)
        guard !records.isEmpty, let stored = try await database.imageEvenHidden(id: imageID) else {
            throw SwiftletError(.notFound, "image \(imageID.prefix(80)): not found; pull it first")
        }
        // The topmost of equal layers covers the others; empty ones show nothing. Each layer costs the VM a disk.
        var seen: Set<String> = []
        var kept = records.reversed().filter { $0.entries > 0 && seen.insert($0.diffID).inserted }.reversed().map(layers.image)
        if kept.isEmpty { kept = [layers.image(of: records[0])] }
        return ImageRootfs(image: try image(stored), layers: kept)
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
        try await database.hideImage(id: stored.record.id)
        try await layers.collect()
        logger.info("image removed", metadata: ["image": "\(stored.record.id)", "reference": "\(reference)"])
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

    func image(_ stored: StoredImage) throws -> Image {
        let config: ImageConfig
        do { config = try JSONDecoder().decode(ImageConfig.self, from: stored.record.config) } catch {
            throw SwiftletError.wrap(error, "image \(stored.record.id): stored configuration")
        }
        return Image(
            id: stored.record.id, repoTags: stored.names.filter { !$0.isDigest }.map(\.name),
            repoDigests: stored.names.filter(\.isDigest).map(\.name), size: UInt64(stored.record.size), user: ImageUser(config.user),
            config: config, pinned: stored.record.pinned || stored.names.contains { pinned.contains($0.name) })
    }

    /// Gives up layers that no image has, after a start or a failed pull. What fails here is collected with the next removal or start.
    func collectAfterFailure() async {
        do { try await layers.collect() } catch {
            logger.warning("layers that no image has could not be deleted yet", metadata: ["error": "\(error)"])
        }
    }

    /// Records an image whose layers are all in place and held.
    func register(id: Digest, config: Data, diffIDs: [String], names: [ImageNameRecord]) async throws -> Image {
        try image(try await database.addImage(id: id.description, config: config, layers: diffIDs, names: names))
    }
}
