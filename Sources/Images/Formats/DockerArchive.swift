import Errors
import Foundation
import Linux

/// What `docker save` wrote before it took to OCI layouts: `manifest.json` and tars beside it.
enum DockerArchive: ImageFormat {
    static let name = "Docker archive"

    private struct Item: JSONFields {
        var config: String
        var repoTags: [String]?
        var layers: [String]?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case config = "Config"
            case repoTags = "RepoTags"
            case layers = "Layers"
        }

        static var fields: [String] { CodingKeys.allCases.map(\.rawValue) }
    }

    static func images(in archive: ImageArchive, platform: Platform) throws -> [ArchivedImage]? {
        guard archive.file("manifest.json") != nil else { return nil }
        let bytes = try archive.contents("manifest.json", limit: ManifestDocument.maximumBytes)
        let items = try JSONDocument.decode([Item].self, from: bytes, "\(archive.path): manifest.json is not that of a Docker archive")
        var budget = ArchiveBudget(path: archive.path)
        return try items.map { item in
            try budget.addImage(layers: item.layers?.count ?? 0)
            let layers = try (item.layers ?? []).map { name in
                guard let blob = archive.file(name) else {
                    throw SwiftletError(.dataLoss, "\(archive.path): layer \(name.prefix(200)) is missing")
                }
                return ArchivedImage.Layer(name: "\(archive.path): layer \(name.prefix(200))", blob: blob, compression: nil)
            }
            let config = try archive.contents(item.config, limit: ImageConfig.maximumBytes)
            try budget.addDocument(bytes: config.count)
            return ArchivedImage(
                references: try (item.repoTags ?? []).map { try ImageReference($0) }, manifestDigest: nil, config: config, layers: layers)
        }
    }
}
