import Errors
import GRDB

/// Where a layer is between the database and the disk. A file is changed outside of transactions, between two of them.
public enum LayerState: String, Codable, Sendable, DatabaseValueConvertible {
    /// Its file may or may not be in place yet.
    case publishing
    case ready
    /// No image has it; its file may or may not be gone.
    case deleting
}

/// A read-only file of the store, shared by every image that has it: a layer as a disk image, or the disk of a machine.
public struct LayerRecord: Encodable, Sendable, Equatable, StoredRow {
    public static let databaseTableName = "layer"
    public static let what = "layer record"
    /// 2: `digest`, `virtualSize`.
    public static let version = 2

    /// Digest of the uncompressed tar; of a disk, one of its format and content.
    public var diffID: String
    /// Of a disk, its format.
    public var filesystem: String
    /// Bytes of the file.
    public var sizeBytes: Int64
    /// Number of entries in the tar; 0 for an empty layer.
    public var entries: Int64
    /// Digest of a disk's file; empty for a layer.
    public var digest: String
    /// Bytes that a machine sees of a disk; 0 for a layer.
    public var virtualSize: Int64
    public var state: LayerState
    public var version = Self.version

    public init(
        diffID: String, filesystem: String, sizeBytes: Int64, entries: Int64, digest: String = "", virtualSize: Int64 = 0,
        state: LayerState = .ready
    ) {
        self.diffID = diffID
        self.filesystem = filesystem
        self.sizeBytes = sizeBytes
        self.entries = entries
        self.digest = digest
        self.virtualSize = virtualSize
        self.state = state
    }

    public var isDisk: Bool { virtualSize > 0 }

    public init(row: Row) throws {
        try Self.checkVersion(row)
        self.init(
            diffID: try Self.column("diffID", of: row), filesystem: try Self.column("filesystem", of: row),
            sizeBytes: try Self.column("sizeBytes", of: row), entries: try Self.column("entries", of: row),
            digest: try Self.column("digest", of: row), virtualSize: try Self.column("virtualSize", of: row),
            state: try Self.column("state", of: row))
        guard sizeBytes >= 0, entries >= 0, virtualSize >= 0 else {
            throw SwiftletError(.dataLoss, "\(Self.what) cannot be read: a size is negative")
        }
    }
}

/// A layer as it was found.
public struct StoredLayer: Sendable {
    public var diffID: String
    public var record: Result<LayerRecord, SwiftletError>
}

/// What the image store asks of the database about layers. Each call is one transaction, none touches a file.
extension StateDatabase {
    /// The layer if its file is in place. A damaged record is none: the layer is made again.
    public func layer(diffID: String) async throws -> LayerRecord? {
        try await read { database in
            let layer = try Self.layer(diffID: diffID, database)
            return layer?.state == .ready ? layer : nil
        }
    }

    /// All layers, in whatever state.
    public func layers() async throws -> [StoredLayer] {
        try await read { try Self.storedLayers(diffIDs: nil, $0) }
    }

    /// Layers that no image has.
    public func unusedLayers() async throws -> [StoredLayer] {
        try await read(Self.unusedLayers)
    }

    /// Records that the layer's file is about to be put in place. False when one is there already.
    public func beginPublishing(_ layer: LayerRecord) async throws -> Bool {
        try await write(.addition) { database in
            if try Self.layer(diffID: layer.diffID, database)?.state == .ready { return false }
            var layer = layer
            layer.state = .publishing
            try layer.upsert(database)
            return true
        }
    }

    /// Records that the layer's file is in place and durable.
    public func endPublishing(diffID: String) async throws {
        try await write(.addition) { try Self.setState(.ready, diffID: diffID, $0) }
    }

    /// Records that the files of those of these layers that no image has are about to be deleted, and returns these.
    public func beginDeleting(diffIDs: [String]) async throws -> [StoredLayer] {
        try await write(.release) { database in
            let wanted = Set(diffIDs)
            let layers = try Self.unusedLayers(database).filter { wanted.contains($0.diffID) }
            for layer in layers { try Self.setState(.deleting, diffID: layer.diffID, database) }
            return layers
        }
    }

    /// Forgets layers whose files are gone.
    public func endDeleting(diffIDs: [String]) async throws {
        try await write(.release) { database in
            for diffID in diffIDs {
                try database.execute(
                    sql: "DELETE FROM layer WHERE diffID = ? AND state = ?", arguments: [diffID, LayerState.deleting.rawValue])
            }
        }
    }

    /// After a start: what was being published is to be deleted, for nobody goes on with it.
    public func abandonPublishing() async throws {
        try await write(.release) { database in
            try database.execute(
                sql: "UPDATE layer SET state = ? WHERE state = ?",
                arguments: [LayerState.deleting.rawValue, LayerState.publishing.rawValue])
        }
    }

    /// Forgets these layers with the images made of them, and returns those images' ids.
    public func forgetLayers(diffIDs: [String]) async throws -> [String] {
        try await write(.release) { database in
            var lost: Set<String> = []
            for diffID in diffIDs {
                let images = try Row.fetchAll(database, sql: "SELECT imageID FROM imageLayer WHERE diffID = ?", arguments: [diffID])
                for image in images.compactMap({ String.fromDatabaseValue($0["imageID"]) }) {
                    try ImageLeaseRecord.filter(Column("imageID") == image).deleteAll(database)
                    try database.execute(sql: "DELETE FROM image WHERE id = ?", arguments: [image])
                    lost.insert(image)
                }
                try database.execute(sql: "DELETE FROM layer WHERE diffID = ?", arguments: [diffID])
            }
            return lost.sorted()
        }
    }

    static func layer(diffID: String, _ database: Database) throws -> LayerRecord? {
        let stored = try storedLayers(diffIDs: [diffID], database).first
        return try? stored?.record.get()
    }

    /// - Parameter diffIDs: nil for all.
    static func storedLayers(diffIDs: [String]?, _ database: Database) throws -> [StoredLayer] {
        guard let diffIDs else { return try stored(Row.fetchAll(database, sql: "SELECT * FROM layer")) }
        return try diffIDs.flatMap { stored(try Row.fetchAll(database, sql: "SELECT * FROM layer WHERE diffID = ?", arguments: [$0])) }
    }

    private static func unusedLayers(_ database: Database) throws -> [StoredLayer] {
        stored(try Row.fetchAll(database, sql: "SELECT * FROM layer WHERE diffID NOT IN (SELECT diffID FROM imageLayer)"))
    }

    private static func stored(_ rows: [Row]) -> [StoredLayer] {
        rows.compactMap { row in
            String.fromDatabaseValue(row["diffID"]).map { StoredLayer(diffID: $0, record: LayerRecord.found(row)) }
        }
    }

    private static func setState(_ state: LayerState, diffID: String, _ database: Database) throws {
        try database.execute(sql: "UPDATE layer SET state = ? WHERE diffID = ?", arguments: [state.rawValue, diffID])
    }
}
