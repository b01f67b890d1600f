import Errors
import Foundation
import GRDB

/// What the image store asks of the database. Each call is one transaction. A damaged row of one image keeps no other from being found.
extension StateDatabase {
    /// Every visible image, without its configuration.
    public func imageHeads() async throws -> [StoredImageHead] {
        try await read { database in
            let names = Dictionary(
                grouping: try Row.fetchAll(database, sql: "SELECT * FROM imageName ORDER BY name").compactMap {
                    try? ImageNameRecord(row: $0)
                },
                by: \.imageID)
            let rows = try Row.fetchAll(database, sql: "SELECT id, size, pinned, removed, user, version FROM image ORDER BY id")
            return rows.filter(Self.isVisible).compactMap { row in
                guard let id = String.fromDatabaseValue(row["id"]) else { return nil }
                let head = Result { try ImageHead(row: row) }.mapError { $0 as? SwiftletError ?? SwiftletError.wrap($0, ImageRecord.what) }
                return StoredImageHead(id: id, head: head, names: names[id] ?? [])
            }
        }
    }

    /// Every visible image.
    public func images() async throws -> [StoredImage] {
        try await read { database in
            try Self.images(Row.fetchAll(database, sql: "SELECT * FROM image ORDER BY id").filter(Self.isVisible), database)
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
            guard let row = try Row.fetchOne(database, sql: "SELECT imageID FROM imageName WHERE name = ?", arguments: [name]),
                let id = String.fromDatabaseValue(row["imageID"])
            else { return nil }
            return try Self.image(id: id, database)
        }
    }

    /// Visible images whose id begins with `prefix`, two at most.
    public func images(idPrefix prefix: String) async throws -> [StoredImage] {
        try await read { database in
            let rows = try Row.fetchAll(
                database, sql: "SELECT * FROM image WHERE substr(id, 1, length(?)) = ?", arguments: [prefix, prefix])
            return try Self.images(Array(rows.filter(Self.isVisible).prefix(2)), database)
        }
    }

    /// Records an image with its layers (lowest first) and gives it the names, taking them from any other image. Damaged rows of the
    /// same image are replaced.
    ///
    /// - Throws: `SwiftletError(.internal)` when a layer's file is not in place.
    public func addImage(id: String, config: Data, user: String, layers: [String], names: [ImageNameRecord]) async throws -> StoredImage {
        try await write(.addition) { database in
            var size = Int64(config.count)
            for diffID in Set(layers) {
                guard let layer = try Self.layer(diffID: diffID, database), layer.state == .ready else {
                    throw SwiftletError(.internal, "image \(id): layer \(diffID) is gone before the image was recorded")
                }
                size += layer.sizeBytes
            }
            let known = try Row.fetchOne(database, sql: "SELECT * FROM image WHERE id = ?", arguments: [id])
            let readable = known.flatMap { try? ImageRecord(row: $0) }
            try ImageRecord(id: id, config: config, user: user, size: size, pinned: readable?.pinned ?? false).upsert(database)
            try ImageLayerRecord.filter(Column("imageID") == id).deleteAll(database)
            for (position, diffID) in layers.enumerated() {
                try ImageLayerRecord(imageID: id, position: position, diffID: diffID).insert(database)
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
        try await write(.release) { database in
            try ImageNameRecord.filter(Column("imageID") == id).deleteAll(database)
            try database.execute(sql: "UPDATE image SET removed = 1 WHERE id = ?", arguments: [id])
            try Self.deleteHiddenImages(database)
        }
    }

    /// Deletes hidden images without a lease.
    public func deleteHiddenImages() async throws {
        try await write(.release, Self.deleteHiddenImages)
    }

    /// Records that `holder` uses the image. Idempotent.
    ///
    /// - Throws: `SwiftletError(.notFound)` when there is no such visible image.
    public func addImageLease(imageID: String, holder: String) async throws {
        try await write(.addition) { database in
            guard try ImageRecord.filter(Column("id") == imageID && Column("removed") == false).fetchCount(database) == 1
            else { throw SwiftletError(.notFound, "image \(imageID): not found while taking a lease for \(holder)") }
            try ImageLeaseRecord(imageID: imageID, holder: holder).upsert(database)
        }
    }

    /// Ends every lease of `holder`, and deletes hidden images nobody else has one of. Idempotent.
    public func deleteImageLeases(holder: String) async throws {
        try await write(.release) { database in
            _ = try ImageLeaseRecord.filter(Column("holder") == holder).deleteAll(database)
            try Self.deleteHiddenImages(database)
        }
    }

    private static func deleteHiddenImages(_ database: Database) throws {
        try database.execute(sql: "DELETE FROM image WHERE removed = 1 AND id NOT IN (SELECT imageID FROM imageLease)")
    }

    private static func isVisible(_ row: Row) -> Bool {
        Int64.fromDatabaseValue(row["removed"]) != 1
    }

    private static func image(id: String, evenHidden: Bool = false, _ database: Database) throws -> StoredImage? {
        let rows = try Row.fetchAll(database, sql: "SELECT * FROM image WHERE id = ?", arguments: [id])
        return try images(rows.filter { evenHidden || isVisible($0) }, database).first
    }

    /// The images of these rows. One image is looked up by its id, more by one pass over the tables.
    private static func images(_ rows: [Row], _ database: Database) throws -> [StoredImage] {
        let only = rows.count == 1 ? rows.first.flatMap { String.fromDatabaseValue($0["id"]) } : nil
        func related(_ table: String, _ order: String) throws -> [Row] {
            let filter = only == nil ? "" : "WHERE imageID = ?"
            return try Row.fetchAll(
                database, sql: "SELECT * FROM \(table) \(filter) ORDER BY \(order)", arguments: only.map { [$0] } ?? StatementArguments())
        }
        let names = try related("imageName", "name").compactMap { try? ImageNameRecord(row: $0) }
        let places = try related("imageLayer", "position").compactMap { try? ImageLayerRecord(row: $0) }
        let layers = Dictionary(
            try storedLayers(diffIDs: only == nil ? nil : places.map(\.diffID), database).map { ($0.diffID, $0) },
            uniquingKeysWith: { first, _ in first })
        let namesByImage = Dictionary(grouping: names, by: \.imageID)
        let placesByImage = Dictionary(grouping: places, by: \.imageID)
        return rows.compactMap { row in
            guard let id = String.fromDatabaseValue(row["id"]) else { return nil }
            return StoredImage(
                id: id, record: ImageRecord.found(row), names: namesByImage[id] ?? [],
                layers: (placesByImage[id] ?? []).compactMap { layers[$0.diffID] })
        }
    }
}
