import Errors
import Foundation

/// What `docker save` wrote before it took to OCI layouts: `manifest.json` and tars beside it.
enum DockerArchive: ImageFormat {
    static let name = "Docker archive"

    private struct Item: Decodable {
        var Config: String
        var RepoTags: [String]?
        var Layers: [String]
    }

    static func images(in archive: ImageArchive, platform: Platform) throws -> [ArchivedImage]? {
        guard archive.file("manifest.json") != nil else { return nil }
        let bytes = try archive.contents("manifest.json", limit: ManifestDocument.maximumBytes)
        let items: [Item]
        do { items = try JSONDecoder().decode([Item].self, from: bytes) } catch {
            throw SwiftletError(.dataLoss, "\(archive.path): manifest.json is not that of a Docker archive", cause: error)
        }
        return try items.map { item in
            let layers = try item.Layers.map { name in
                guard let blob = archive.file(name) else {
                    throw SwiftletError(.dataLoss, "\(archive.path): layer \(name.prefix(200)) is missing")
                }
                return ArchivedImage.Layer(name: "\(archive.path): layer \(name.prefix(200))", blob: blob, compression: nil)
            }
            return ArchivedImage(
                references: try (item.RepoTags ?? []).map { try ImageReference($0) }, manifestDigest: nil,
                config: try archive.contents(item.Config, limit: ImageConfig.maximumBytes), layers: layers)
        }
    }
}
