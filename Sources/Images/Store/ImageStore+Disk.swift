import Errors
import Foundation
import Linux
import Runtime
import State

extension ImageStore {
    /// Where a disk comes from, as far as its image's id and names go.
    struct DiskOrigin: Sendable {
        /// The image's id where it is not made of the disk: the digest of a configuration.
        var id: Digest?
        var config: Data?
        /// Tagged, or by the digest of what a registry calls so.
        var names: @Sendable (_ id: Digest, _ disk: Digest) -> [ImageNameRecord]
    }

    /// Whether `load` is to take the file for a disk.
    func isDisk(_ path: String) throws -> Bool {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return false }
        if DiskFileName(path).isDisk { return true }
        let reader = try BlobReader(BlobSource(path: path, offset: 0, length: 4))
        return try withExtendedLifetime(reader) { try reader.next().map { $0.elementsEqual(Array("QFI".utf8) + [0xfb]) } ?? false }
    }

    /// Takes in a disk image that lies on the node.
    ///
    /// - Parameter format: nil: what name and content say, when they agree.
    func loadDisk(path: String, reference: ImageReference?, format: DiskImage.Format?) async throws -> Image {
        let named = DiskFileName(path)
        let reference = try reference ?? named.reference()
        guard reference.digest == nil else { throw SwiftletError(.invalidArgument, "the name of a disk that is loaded has no digest") }
        let limits = configuration.limits
        // A file that is called raw may still look like something else, which the guest that wrote it may have wanted.
        let said = format ?? (named.format == .qcow2 ? .qcow2 : nil)
        let record = try await conversions.withPermit(for: PullShare(configuration).id) { [self] in
            try await layers.addDisk(saidToBe: said, name: "disk image") { temporary, call in
                let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? UInt64 ?? 0
                return try DiskFile.copy(
                    BlobSource(path: path, offset: 0, length: size), decompressing: named.isCompressed, to: temporary, limits: limits,
                    isCancelled: { call.isCancelled })
            }
        }
        return try await holding(record) { [self] in
            if format == nil, named.format == .raw, record.filesystem != DiskImage.Format.raw.rawValue {
                throw SwiftletError(
                    .invalidArgument,
                    "its name says raw, and its first bytes that it is a \(record.filesystem) image; say which by --disk-format")
            }
            let image = try await register(
                record,
                DiskOrigin { id, disk in
                    [
                        ImageNameRecord(name: reference.description, isDigest: false, imageID: id.description),
                        ImageNameRecord(name: "\(reference.name)@\(disk)", isDigest: true, imageID: id.description),
                    ]
                })
            logger.info("disk image loaded", metadata: ["path": "\(path)", "image": "\(image.id)"])
            return image
        }
    }

    /// Runs `body`, which records what a disk that has been taken in is for, and lets go of the disk.
    func holding(_ disk: LayerRecord, _ body: () async throws -> Image) async throws -> Image {
        do {
            let image = try await body()
            layers.claims.release([disk.diffID])
            return image
        } catch {
            layers.claims.release([disk.diffID])
            await collectAfterFailure()
            throw error
        }
    }

    /// Records an image that is a disk. The caller holds the disk.
    func register(_ disk: LayerRecord, _ origin: DiskOrigin) async throws -> Image {
        let digest = try Digest(disk.digest)
        // Not the file's digest: whoever makes disks could give one the bytes of another image's configuration, and by them its id. What
        // this is the digest of is no JSON.
        let id = try origin.id ?? Digest(disk.diffID)
        // Whoever holds it by this id would get something else the next time.
        if let known = try await database.imageEvenHidden(id: id.description), known.layers.map(\.diffID) != [disk.diffID],
            (try? whole(known)) != nil
        {
            let other = try? known.layers.first?.record.get()
            let kind = other?.isDisk == true ? "a disk that is \(other?.filesystem ?? "")" : "a container image"
            throw SwiftletError(.failedPrecondition, "image \(id) is on this node already, as \(kind); remove it first")
        }
        let document = try origin.config ?? JSONSerialization.data(withJSONObject: ["disk": digest.description], options: [.sortedKeys])
        return try whole(
            try await database.addImage(
                id: id.description, config: document, user: "", layers: [disk.diffID], names: origin.names(id, digest))
        ).image
    }

    /// The image of a containerDisk whose layers are all in place and held; nil when it is a container's.
    func takeContainerDisk(
        _ config: ImageConfig, id: Digest, bytes: Data, names: [ImageNameRecord], _ share: PullShare
    ) async throws -> Image? {
        var records: [LayerRecord] = []
        for diffID in config.diffIDs {
            guard let record = try await layers.find(try Digest(diffID)) else { return nil }
            records.append(record)
        }
        guard ContainerDisk.isPossible(config, entries: records.reduce(0) { $0 + $1.entries }) else { return nil }
        let (paths, limits) = (records.map { layers.path(of: $0) }, configuration.limits)
        let found: LayerRecord? = try await conversions.withPermit(for: share.id) { [self] in
            let isDisk = try await work.run("look for a disk") { _ in try ContainerDisk(in: paths, limits: limits) != nil }
            guard isDisk else { return nil }
            return try await layers.addDisk(saidToBe: nil, name: "containerDisk") { temporary, call in
                guard let disk = try ContainerDisk(in: paths, limits: limits) else { throw SwiftletError(.internal, "its layers are gone") }
                return try disk.write(to: temporary, limits: limits, isCancelled: { call.isCancelled })
            }
        }
        guard let record = found else { return nil }
        return try await holding(record) { try await register(record, DiskOrigin(id: id, config: bytes) { _, _ in names }) }
    }

    /// The disk image with this id, which gets the names as well; nil when it is not here. Its layers are not: they were of use once.
    func knownDisk(_ id: Digest, names: [ImageNameRecord]) async throws -> Image? {
        guard let stored = try await database.image(id: id.description), (try? whole(stored)) != nil,
            let record = try? stored.record.get(), let disk = try? stored.layers.first?.record.get(), disk.isDisk
        else { return nil }
        layers.claims.hold([disk.diffID])
        defer { layers.claims.release([disk.diffID]) }
        return try whole(
            try await database.addImage(
                id: stored.id, config: record.config, user: record.user, layers: [disk.diffID], names: names)
        ).image
    }

    /// A disk is kept without the layers that it came in.
    func forgetLayersOfDisk(_ image: Image) async {
        guard let stored = try? await database.image(id: image.id), (try? stored.layers.first?.record.get())?.isDisk == true else { return }
        await collectAfterFailure()
    }
}
