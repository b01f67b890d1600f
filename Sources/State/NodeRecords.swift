import Foundation
import GRDB

/// A setting that the node received and keeps across restarts. `document` is the heart's own JSON.
public struct NodeSettingRecord: Codable, Sendable, Equatable, FetchableRecord, PersistableRecord {
    public static let databaseTableName = "nodeSetting"

    public var name: String
    public var document: Data

    public init(name: String, document: Data) {
        self.name = name
        self.document = document
    }
}

/// The table of the settings that the node received.
enum NodeSchema {
    static func create(_ database: Database) throws {
        try database.create(table: NodeSettingRecord.databaseTableName) { table in
            table.primaryKey("name", .text)
            table.column("document", .blob).notNull()
        }
    }
}
