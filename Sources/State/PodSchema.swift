import GRDB

/// Tables of pods, containers and the ledger of what they own outside the daemon.
enum PodSchema {
    static func create(_ database: Database) throws {
        try database.create(table: SandboxRecord.databaseTableName) { table in
            table.primaryKey("id", .text)
            table.column("state", .text).notNull()
            table.column("createdAt", .integer).notNull()
            table.column("document", .blob).notNull()
        }
        try database.create(table: ContainerRecord.databaseTableName) { table in
            table.primaryKey("id", .text)
            table.column("sandboxID", .text).notNull().indexed()
                .references(SandboxRecord.databaseTableName, onDelete: .restrict)
            table.column("state", .text).notNull()
            table.column("createdAt", .integer).notNull()
            table.column("document", .blob).notNull()
        }
        try database.create(table: ResourceRecord.databaseTableName) { table in
            table.autoIncrementedPrimaryKey("sequence")
            table.column("owner", .text).notNull().indexed()
            table.column("kind", .text).notNull()
            table.column("name", .text).notNull()
            table.column("document", .blob).notNull()
            table.uniqueKey(["owner", "kind", "name"])
        }
    }
}
