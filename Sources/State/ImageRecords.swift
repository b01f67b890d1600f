import Errors
import Foundation
import GRDB

/// An image as it is stored. Its names, layers and leases are rows of their own.
public struct ImageRecord: Encodable, Sendable, Equatable, StoredRow {
    public static let databaseTableName = "image"
    public static let what = "image record"
    /// 2: `user`.
    public static let version = 2

    /// `sha256:<config digest>`.
    public var id: String
    /// The image's configuration, byte for byte as its publisher wrote it.
    public var config: Data
    /// Bytes on disk.
    public var size: Int64
    public var pinned: Bool
    /// Removed by the client, but leased: invisible, gone with the last lease.
    public var removed: Bool
    /// The configuration's `User`, for lists, which read no configuration.
    public var user: String
    public var version = Self.version

    public init(id: String, config: Data, user: String, size: Int64, pinned: Bool = false, removed: Bool = false) {
        self.id = id
        self.config = config
        self.user = user
        self.size = size
        self.pinned = pinned
        self.removed = removed
    }

    public init(row: Row) throws {
        try Self.checkVersion(row)
        self.init(
            id: try Self.column("id", of: row), config: try Self.column("config", of: row), user: try Self.column("user", of: row),
            size: try Self.column("size", of: row), pinned: try Self.column("pinned", of: row),
            removed: try Self.column("removed", of: row))
        guard size >= 0 else { throw SwiftletError(.dataLoss, "\(Self.what) cannot be read: size is negative") }
    }
}

/// What lists show of an image: its record without the configuration, which is as large as its publisher made it.
public struct ImageHead: Sendable, Equatable {
    public var size: Int64
    public var pinned: Bool
    public var user: String

    public init(_ record: ImageRecord) {
        (size, pinned, user) = (record.size, record.pinned, record.user)
    }

    init(row: Row) throws {
        try ImageRecord.checkVersion(row)
        size = try ImageRecord.column("size", of: row)
        pinned = try ImageRecord.column("pinned", of: row)
        user = try ImageRecord.column("user", of: row)
        guard size >= 0 else { throw SwiftletError(.dataLoss, "\(ImageRecord.what) cannot be read: size is negative") }
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

/// An image as a list found it, with its names in alphabetical order.
public struct StoredImageHead: Sendable {
    public var id: String
    public var head: Result<ImageHead, SwiftletError>
    public var names: [ImageNameRecord]
}

/// An image as it was found, with its names in alphabetical order and its layers, lowest first. Rows that cannot be read are missing
/// among names and places of layers.
public struct StoredImage: Sendable {
    public var id: String
    public var record: Result<ImageRecord, SwiftletError>
    public var names: [ImageNameRecord]
    public var layers: [StoredLayer]
}
