import Errors
import Foundation
import Linux
import Runtime
import State

extension ImageStore {
    /// Takes in the images of an archive, which is an OCI layout (directory or tar) or a Docker archive, plain or compressed; or a disk
    /// image, by the ending of its name (.qcow2, .raw, .img, also with .gz or .zst) or by its content.
    ///
    /// - Parameters:
    ///   - path: read by the daemon, with its rights.
    ///   - reference: the name to give, instead of those in the archive, or of one made of a disk's file name; only for one image.
    ///   - diskFormat: the file is a disk image of this format, whatever it looks like.
    /// - Throws: `SwiftletError`: `.notFound` for a missing file, `.invalidArgument` for what is no archive of images,
    ///   `.dataLoss` for a damaged one.
    public func load(path: String, reference: String? = nil, diskFormat: DiskImage.Format? = nil) async throws -> [Image] {
        let reference = try reference.map { try ImageReference($0) }
        do {
            let disk = try await work.run("look at \(path)") { [self] _ in try diskFormat != nil || isDisk(path) }
            if disk { return [try await loadDisk(path: path, reference: reference, format: diskFormat)] }
        } catch { throw SwiftletError.wrap(error, "load \(path)") }
        let scratch = layers.partialPath("archive")
        let limits = configuration.limits
        do {
            let archived = try await work.run("load \(path)") { _ in
                let archive = try ImageArchive(path: path, scratch: scratch, limits: limits)
                for format in imageFormats {
                    if let images = try format.images(in: archive, platform: .current) { return images }
                }
                let known = imageFormats.map { $0.name }.joined(separator: ", ")
                throw SwiftletError(.invalidArgument, "it is none of these: \(known)")
            }
            guard reference == nil || archived.count == 1 else {
                throw SwiftletError(.invalidArgument, "one name for \(archived.count) images; leave it out to use the archive's own names")
            }
            var images: [Image] = []
            for image in archived { images.append(try await take(image, named: reference, archive: path)) }
            await work.discard(scratch)
            return images
        } catch {
            await work.discard(scratch)
            throw SwiftletError.wrap(error, "load \(path)")
        }
    }

    private func take(_ archived: ArchivedImage, named reference: ImageReference?, archive: String) async throws -> Image {
        let config = try ImageConfig.decode(archived.config, what: archive)
        guard config.diffIDs.count == archived.layers.count else {
            throw SwiftletError(.dataLoss, "\(archived.layers.count) layers where the configuration has \(config.diffIDs.count)")
        }
        let share = PullShare(configuration)
        let held = Self.layers(of: config)
        layers.claims.hold(held)
        do {
            try await withThrowingTaskGroup { group in
                for (diffID, layer) in Dictionary(zip(config.diffIDs, archived.layers), uniquingKeysWith: { first, _ in first }) {
                    group.addTask { try await self.take(layer, diffID: try Digest(diffID), share) }
                }
                // Not `waitForAll`, which lets the others go on to their end.
                for try await _ in group {}
            }
            let id = Digest(of: archived.config)
            let tagged = reference.map { [$0] } ?? archived.references
            var names = tagged.filter { $0.digest == nil }.map {
                ImageNameRecord(name: $0.description, isDigest: false, imageID: id.description)
            }
            if let digest = archived.manifestDigest {
                names += Set(tagged.map(\.name)).map {
                    ImageNameRecord(name: "\($0)@\(digest)", isDigest: true, imageID: id.description)
                }
            }
            let image = try await register(id: id, bytes: archived.config, config, names: names, share)
            layers.claims.release(held)
            await forgetLayersOfDisk(image)
            logger.info("image loaded", metadata: ["path": "\(archive)", "image": "\(image.id)"])
            return image
        } catch {
            layers.claims.release(held)
            await collectAfterFailure()
            throw error
        }
    }

    private func take(_ layer: ArchivedImage.Layer, diffID: Digest, _ share: PullShare) async throws {
        try await layerPulls.run("\(diffID) \(layer.name)") { [self] in
            if try await layers.find(diffID) != nil { return }
            try await convert(layer.blob, layer.compression, diffID: diffID, share, name: layer.name)
        }
    }
}
