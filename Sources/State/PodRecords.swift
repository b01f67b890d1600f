import Foundation
import GRDB

/// A pod sandbox as it is stored. `document` is the heart's own JSON; the columns are what SQL needs to see.
public struct SandboxRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "sandbox"

    public var id: String
    public var state: String
    /// Unix time in nanoseconds.
    public var createdAt: Int64
    public var document: Data

    public init(id: String, state: String, createdAt: Int64, document: Data) {
        self.id = id
        self.state = state
        self.createdAt = createdAt
        self.document = document
    }
}

/// A container as it is stored.
public struct ContainerRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "container"

    public var id: String
    public var sandboxID: String
    public var state: String
    /// Unix time in nanoseconds.
    public var createdAt: Int64
    public var document: Data

    public init(id: String, sandboxID: String, state: String, createdAt: Int64, document: Data) {
        self.id = id
        self.sandboxID = sandboxID
        self.state = state
        self.createdAt = createdAt
        self.document = document
    }
}

/// One line of the ledger: something owned outside the daemon's memory, written before it is acquired.
public struct ResourceRecord: Codable, Sendable, Equatable, FetchableRecord, MutablePersistableRecord {
    public static let databaseTableName = "resource"

    public enum Columns {
        public static let sequence = Column(CodingKeys.sequence)
        public static let owner = Column(CodingKeys.owner)
        public static let kind = Column(CodingKeys.kind)
        public static let name = Column(CodingKeys.name)
    }

    /// Order of acquisition; release goes backwards.
    public var sequence: Int64?
    /// The id of the sandbox or container that owns it.
    public var owner: String
    public var kind: String
    public var name: String
    public var document: Data

    public init(sequence: Int64? = nil, owner: String, kind: String, name: String, document: Data) {
        self.sequence = sequence
        self.owner = owner
        self.kind = kind
        self.name = name
        self.document = document
    }

    public mutating func didInsert(_ inserted: InsertionSuccess) {
        sequence = inserted.rowID
    }
}
