import Errors
import Foundation
import GRDB

/// An image as it is stored. Its names, layers and leases are rows of their own.
public struct ImageRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "image"

    /// `sha256:<config digest>`.
    public var id: String
    /// The image's configuration, byte for byte as its publisher wrote it.
    public var config: Data
    /// Bytes on disk.
    public var size: Int64
    public var pinned: Bool
    /// Removed by the client, but leased: invisible, gone with the last lease.
    public var removed: Bool

    public init(id: String, config: Data, size: Int64, pinned: Bool = false, removed: Bool = false) {
        self.id = id
        self.config = config
        self.size = size
        self.pinned = pinned
        self.removed = removed
    }
}

/// A normalised name of an image: `host/path:tag`, or `host/path@digest`.
public struct ImageNameRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "imageName"

    public var name: String
    public var isDigest: Bool
    public var imageID: String

    public init(name: String, isDigest: Bool, imageID: String) {
        self.name = name
        self.isDigest = isDigest
        self.imageID = imageID
    }
}

/// A layer's read-only disk image, shared by every image that has this layer.
public struct LayerRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "layer"

    /// Digest of the uncompressed tar.
    public var diffID: String
    public var filesystem: String
    public var sizeBytes: Int64
    /// Number of entries in the tar; 0 for an empty layer.
    public var entries: Int64

    public init(diffID: String, filesystem: String, sizeBytes: Int64, entries: Int64) {
        self.diffID = diffID
        self.filesystem = filesystem
        self.sizeBytes = sizeBytes
        self.entries = entries
    }
}

/// The place of a layer in an image: 0 is the lowest.
public struct ImageLayerRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "imageLayer"

    public var imageID: String
    public var position: Int
    public var diffID: String

    public init(imageID: String, position: Int, diffID: String) {
        self.imageID = imageID
        self.position = position
        self.diffID = diffID
    }
}

/// Somebody uses the image's layers.
public struct ImageLeaseRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "imageLease"

    public var imageID: String
    public var holder: String

    public init(imageID: String, holder: String) {
        self.imageID = imageID
        self.holder = holder
    }
}

/// An image with its names.
public struct StoredImage: Sendable, Equatable {
    public var record: ImageRecord
    public var names: [ImageNameRecord]
}

/// What the image store asks of the database. Each call is one transaction.
extension StateDatabase {
    /// Every visible image with its names in alphabetical order.
    public func images() async throws -> [StoredImage] {
        try await read { database in
            let names = Dictionary(
                grouping: try ImageNameRecord.order(Column("name")).fetchAll(database), by: \.imageID)
            return try ImageRecord.filter(Column("removed") == false).order(Column("id")).fetchAll(database)
                .map { StoredImage(record: $0, names: names[$0.id] ?? []) }
        }
    }

    /// The visible image with this id, or nil.
    public func image(id: String) async throws -> StoredImage? {
        try await read { try Self.image(id: id, $0) }
    }

    /// The image with this id, also a removed one that is still leased.
    public func imageEvenHidden(id: String) async throws -> StoredImage? {
        try await read { try Self.image(id: id, evenHidden: true, $0) }
    }

    /// The visible image that bears this normalised name, or nil.
    public func image(name: String) async throws -> StoredImage? {
        try await read { database in
            guard let name = try ImageNameRecord.fetchOne(database, key: name) else { return nil }
            return try Self.image(id: name.imageID, database)
        }
    }

    /// Visible images whose id begins with `prefix`, two at most.
    public func images(idPrefix prefix: String) async throws -> [StoredImage] {
        try await read { database in
            try ImageRecord.filter(sql: "removed = 0 AND substr(id, 1, length(?)) = ?", arguments: [prefix, prefix])
                .limit(2).fetchAll(database).compactMap { try Self.image(id: $0.id, database) }
        }
    }

    /// The layers of an image, lowest first; also of a removed one that is still leased.
    public func layers(imageID: String) async throws -> [LayerRecord] {
        try await read { database in
            try LayerRecord.fetchAll(
                database,
                sql: """
                    SELECT layer.* FROM layer JOIN imageLayer USING (diffID) WHERE imageLayer.imageID = ?
                    ORDER BY imageLayer.position
                    """, arguments: [imageID])
        }
    }

    /// The layer if it is known. Runs in the order of the writes, so that it never sees a layer being collected.
    public func layer(diffID: String) async throws -> LayerRecord? {
        try await write { try LayerRecord.fetchOne($0, key: diffID) }
    }

    /// Calls `publish`, which puts the layer's file in its place, and records the layer, as one step.
    public func addLayer(_ layer: LayerRecord, publish: @escaping @Sendable () throws -> Void) async throws {
        try await write { database in
            try publish()
            try layer.upsert(database)
        }
    }

    /// Records an image with its layers (lowest first) and gives it the names, taking them from any other image.
    public func addImage(_ image: ImageRecord, layers: [String], names: [ImageNameRecord]) async throws -> StoredImage {
        try await write { database in
            let isNew = try !ImageRecord.exists(database, key: image.id)
            var image = image
            if let known = try ImageRecord.fetchOne(database, key: image.id) { image.pinned = known.pinned }
            try image.upsert(database)
            if isNew {
                for (position, diffID) in layers.enumerated() {
                    try ImageLayerRecord(imageID: image.id, position: position, diffID: diffID).insert(database)
                }
            }
            for name in names { try name.upsert(database) }
            guard let stored = try Self.image(id: image.id, database) else {
                throw SwiftletError(.internal, "image \(image.id): not found after it was recorded")
            }
            return stored
        }
    }

    /// Takes the image's names away and hides it. What nobody uses any more goes with `collectImages`.
    public func hideImage(id: String) async throws {
        try await write { database in
            try ImageNameRecord.filter(Column("imageID") == id).deleteAll(database)
            try database.execute(sql: "UPDATE image SET removed = 1 WHERE id = ?", arguments: [id])
        }
    }

    /// Deletes hidden images without a lease, then every layer no image has and `isHeld` does not claim;
    /// `discard` deletes a layer's file, in the same step.
    public func collectImages(
        isHeld: @escaping @Sendable (String) -> Bool, discard: @escaping @Sendable (LayerRecord) throws -> Void
    ) async throws {
        try await write { database in
            try database.execute(
                sql: "DELETE FROM image WHERE removed = 1 AND id NOT IN (SELECT imageID FROM imageLease)")
            let unused = try LayerRecord.filter(sql: "diffID NOT IN (SELECT diffID FROM imageLayer)").fetchAll(database)
            for layer in unused where !isHeld(layer.diffID) {
                try discard(layer)
                try layer.delete(database)
            }
        }
    }

    /// Records that `holder` uses the image. Idempotent.
    ///
    /// - Throws: `SwiftletError(.notFound)` when there is no such visible image.
    public func addImageLease(imageID: String, holder: String) async throws {
        try await write { database in
            guard try ImageRecord.filter(Column("id") == imageID && Column("removed") == false).fetchCount(database) == 1
            else { throw SwiftletError(.notFound, "image \(imageID): not found while taking a lease for \(holder)") }
            try ImageLeaseRecord(imageID: imageID, holder: holder).upsert(database)
        }
    }

    /// Ends every lease of `holder`. Idempotent.
    public func deleteImageLeases(holder: String) async throws {
        _ = try await write { try ImageLeaseRecord.filter(Column("holder") == holder).deleteAll($0) }
    }

    /// Forgets the layers `isPresent` does not know, with the images made of them, and returns those images' ids.
    public func forgetLostLayers(isPresent: @escaping @Sendable (LayerRecord) -> Bool) async throws -> [String] {
        try await write { database in
            var lost: Set<String> = []
            for layer in try LayerRecord.fetchAll(database) where !isPresent(layer) {
                let images = try ImageLayerRecord.filter(Column("diffID") == layer.diffID).fetchAll(database).map(\.imageID)
                for image in images {
                    try ImageLeaseRecord.filter(Column("imageID") == image).deleteAll(database)
                    _ = try ImageRecord.deleteOne(database, key: image)
                    lost.insert(image)
                }
                try layer.delete(database)
            }
            return lost.sorted()
        }
    }

    private static func image(id: String, evenHidden: Bool = false, _ database: Database) throws -> StoredImage? {
        guard let record = try ImageRecord.fetchOne(database, key: id), evenHidden || !record.removed else { return nil }
        let names = try ImageNameRecord.filter(Column("imageID") == id).order(Column("name")).fetchAll(database)
        return StoredImage(record: record, names: names)
    }
}
