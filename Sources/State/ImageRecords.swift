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

    /// Records an image with its layers (lowest first) and gives it the names, taking them from any other image.
    ///
    /// - Throws: `SwiftletError(.internal)` when a layer's file is not in place.
    public func addImage(id: String, config: Data, layers: [String], names: [ImageNameRecord]) async throws -> StoredImage {
        try await write { database in
            var size = Int64(config.count)
            for diffID in Set(layers) {
                guard let layer = try LayerRecord.fetchOne(database, key: diffID), layer.state == .ready else {
                    throw SwiftletError(.internal, "image \(id): layer \(diffID) is gone before the image was recorded")
                }
                size += layer.sizeBytes
            }
            let known = try ImageRecord.fetchOne(database, key: id)
            try ImageRecord(id: id, config: config, size: size, pinned: known?.pinned ?? false).upsert(database)
            if known == nil {
                for (position, diffID) in layers.enumerated() {
                    try ImageLayerRecord(imageID: id, position: position, diffID: diffID).insert(database)
                }
            }
            for name in names { try name.upsert(database) }
            guard let stored = try Self.image(id: id, database) else {
                throw SwiftletError(.internal, "image \(id): not found after it was recorded")
            }
            return stored
        }
    }

    /// Takes the image's names away and hides it; deletes it when nobody holds a lease.
    public func hideImage(id: String) async throws {
        try await write { database in
            try ImageNameRecord.filter(Column("imageID") == id).deleteAll(database)
            try database.execute(sql: "UPDATE image SET removed = 1 WHERE id = ?", arguments: [id])
            try Self.deleteHiddenImages(database)
        }
    }

    /// Deletes hidden images without a lease.
    public func deleteHiddenImages() async throws {
        try await write(Self.deleteHiddenImages)
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

    /// Ends every lease of `holder`, and deletes hidden images nobody else has one of. Idempotent.
    public func deleteImageLeases(holder: String) async throws {
        try await write { database in
            _ = try ImageLeaseRecord.filter(Column("holder") == holder).deleteAll(database)
            try Self.deleteHiddenImages(database)
        }
    }

    private static func deleteHiddenImages(_ database: Database) throws {
        try database.execute(sql: "DELETE FROM image WHERE removed = 1 AND id NOT IN (SELECT imageID FROM imageLease)")
    }

    private static func image(id: String, evenHidden: Bool = false, _ database: Database) throws -> StoredImage? {
        guard let record = try ImageRecord.fetchOne(database, key: id), evenHidden || !record.removed else { return nil }
        let names = try ImageNameRecord.filter(Column("imageID") == id).order(Column("name")).fetchAll(database)
        return StoredImage(record: record, names: names)
    }
}
