import Errors
import Foundation
import Runtime
import State

extension ImageStore {
    /// Fetches a disk from the web, or learns by the digest in its name or in the configuration that it is here already.
    func fetchDisk(_ source: DiskSources.Source, _ reference: ImageReference) async throws -> Image {
        @Sendable func names(_ id: Digest, _ disk: Digest) -> [ImageNameRecord] {
            var names = [ImageNameRecord(name: "\(reference.name)@\(disk)", isDigest: true, imageID: id.description)]
            if reference.digest == nil {
                names.append(ImageNameRecord(name: reference.description, isDigest: false, imageID: id.description))
            }
            return names
        }
        // What came from here before: whoever names another's digest has to show that it is served to him.
        if let digest = source.digest, let stored = try await database.image(name: "\(reference.name)@\(digest)"),
            let disk = try? stored.layers.first?.record.get(), disk.isDisk, disk.digest == digest.description,
            source.format.map({ $0.rawValue == disk.filesystem }) ?? true, let id = try? Digest(stored.id),
            let known = try await knownDisk(id, names: names(id, digest))
        {
            return known
        }
        let path = layers.partialPath("blob")
        let share = PullShare(configuration)
        let download = DiskDownload(
            source: source, configuration: configuration, throughput: share.throughput, work: work,
            resolve: { [work] host in
                try await work.run("resolve \(host)", timeout: .seconds(30)) { _ in try RegistryDestinations.lookUp(host) }
            })
        do {
            let host = URL(string: source.url)?.host ?? ""
            let blob = try await downloads.withPlace(host: host, pull: share.id) { try await download.run(to: path) }
            let limits = configuration.limits
            let record = try await conversions.withPermit(for: share.id) { [self] in
                try await layers.addDisk(saidToBe: source.format, name: "disk image") { temporary, call in
                    try DiskFile.copy(blob, decompressing: false, to: temporary, limits: limits, isCancelled: { call.isCancelled })
                }
            }
            await work.discard(path)
            let image = try await holding(record) { try await register(record, DiskOrigin(names: names)) }
            logger.info("disk image pulled", metadata: ["reference": "\(reference)", "image": "\(image.id)"])
            return image
        } catch {
            await work.discard(path)
            throw error
        }
    }
}
