import GRDB

/// Where a layer is between the database and the disk. A file is changed outside of transactions, between two of them.
public enum LayerState: String, Codable, Sendable {
    /// Its file may or may not be in place yet.
    case publishing
    case ready
    /// No image has it; its file may or may not be gone.
    case deleting
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
    public var state: LayerState

    public init(diffID: String, filesystem: String, sizeBytes: Int64, entries: Int64, state: LayerState = .ready) {
        self.diffID = diffID
        self.filesystem = filesystem
        self.sizeBytes = sizeBytes
        self.entries = entries
        self.state = state
    }
}

/// What the image store asks of the database about layers. Each call is one transaction, none touches a file.
extension StateDatabase {
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

    /// The layer if its file is in place.
    public func layer(diffID: String) async throws -> LayerRecord? {
        try await read { database in
            let layer = try LayerRecord.fetchOne(database, key: diffID)
            return layer?.state == .ready ? layer : nil
        }
    }

    /// All layers, in whatever state.
    public func layers() async throws -> [LayerRecord] {
        try await read { try LayerRecord.fetchAll($0) }
    }

    /// Layers that no image has.
    public func unusedLayers() async throws -> [LayerRecord] {
        try await read(Self.unusedLayers)
    }

    /// Records that the layer's file is about to be put in place. False when one is there already.
    public func beginPublishing(_ layer: LayerRecord) async throws -> Bool {
        try await write { database in
            if try LayerRecord.fetchOne(database, key: layer.diffID)?.state == .ready { return false }
            var layer = layer
            layer.state = .publishing
            try layer.upsert(database)
            return true
        }
    }

    /// Records that the layer's file is in place and durable.
    public func endPublishing(diffID: String) async throws {
        try await write { database in
            try database.execute(sql: "UPDATE layer SET state = ? WHERE diffID = ?", arguments: [LayerState.ready.rawValue, diffID])
        }
    }

    /// Records that the files of those of these layers that no image has are about to be deleted, and returns these.
    public func beginDeleting(diffIDs: [String]) async throws -> [LayerRecord] {
        try await write { database in
            let wanted = Set(diffIDs)
            var layers = try Self.unusedLayers(database).filter { wanted.contains($0.diffID) }
            for index in layers.indices {
                layers[index].state = .deleting
                try layers[index].update(database)
            }
            return layers
        }
    }

    /// Forgets layers whose files are gone.
    public func endDeleting(diffIDs: [String]) async throws {
        try await write { database in
            for diffID in diffIDs {
                try database.execute(
                    sql: "DELETE FROM layer WHERE diffID = ? AND state = ?", arguments: [diffID, LayerState.deleting.rawValue])
            }
        }
    }

    /// After a start: what was being published is to be deleted, for nobody goes on with it.
    public func abandonPublishing() async throws {
        try await write { database in
            try database.execute(
                sql: "UPDATE layer SET state = ? WHERE state = ?",
                arguments: [LayerState.deleting.rawValue, LayerState.publishing.rawValue])
        }
    }

    /// Forgets these layers with the images made of them, and returns those images' ids.
    public func forgetLayers(diffIDs: [String]) async throws -> [String] {
        try await write { database in
            var lost: Set<String> = []
            for diffID in diffIDs {
                let images = try ImageLayerRecord.filter(Column("diffID") == diffID).fetchAll(database).map(\.imageID)
                for image in images {
                    try ImageLeaseRecord.filter(Column("imageID") == image).deleteAll(database)
                    _ = try ImageRecord.deleteOne(database, key: image)
                    lost.insert(image)
                }
                _ = try LayerRecord.deleteOne(database, key: diffID)
            }
            return lost.sorted()
        }
    }

    private static func unusedLayers(_ database: Database) throws -> [LayerRecord] {
        try LayerRecord.filter(sql: "diffID NOT IN (SELECT diffID FROM imageLayer)").fetchAll(database)
    }
}
