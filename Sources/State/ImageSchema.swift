import GRDB

/// Tables of the image store.
enum ImageSchema {
    static func create(_ database: Database) throws {
        try database.create(table: ImageRecord.databaseTableName) { table in
            table.primaryKey("id", .text)
            table.column("config", .blob).notNull()
            table.column("size", .integer).notNull()
            table.column("pinned", .boolean).notNull()
            table.column("removed", .boolean).notNull()
        }
        try database.create(table: ImageNameRecord.databaseTableName) { table in
            table.primaryKey("name", .text)
            table.column("isDigest", .boolean).notNull()
            table.column("imageID", .text).notNull().indexed()
                .references(ImageRecord.databaseTableName, onDelete: .cascade)
        }
        try database.create(table: LayerRecord.databaseTableName) { table in
            table.primaryKey("diffID", .text)
            table.column("filesystem", .text).notNull()
            table.column("sizeBytes", .integer).notNull()
            table.column("entries", .integer).notNull()
        }
        try database.create(table: ImageLayerRecord.databaseTableName) { table in
            table.primaryKey {
                table.column("imageID", .text).references(ImageRecord.databaseTableName, onDelete: .cascade)
                table.column("position", .integer)
            }
            table.column("diffID", .text).notNull().indexed()
                .references(LayerRecord.databaseTableName, onDelete: .restrict)
        }
        try database.create(table: ImageLeaseRecord.databaseTableName) { table in
            table.primaryKey {
                table.column("imageID", .text).references(ImageRecord.databaseTableName, onDelete: .restrict)
                table.column("holder", .text)
            }
        }
    }

    /// Layers get a state: their files are changed between two transactions instead of within one.
    static func addLayerStates(_ database: Database) throws {
        try database.alter(table: LayerRecord.databaseTableName) { table in
            table.add(column: "state", .text).notNull().defaults(to: LayerState.ready.rawValue)
        }
    }

    /// Images and layers get a version: what was written before is version 1.
    static func addVersions(_ database: Database) throws {
        for table in [ImageRecord.databaseTableName, LayerRecord.databaseTableName] {
            try database.alter(table: table) { $0.add(column: "version", .integer).notNull().defaults(to: 1) }
        }
    }

    /// Version 2 of an image: lists need its user and do not read its configuration.
    static func addUsers(_ database: Database) throws {
        try database.alter(table: ImageRecord.databaseTableName) { $0.add(column: "user", .text).notNull().defaults(to: "") }
        try database.execute(
            sql: """
                UPDATE image SET user = coalesce(substr(json_extract(CAST(config AS TEXT), '$.config.User'), 1, 256), '')
                WHERE json_valid(CAST(config AS TEXT));
                UPDATE image SET version = 2 WHERE version = 1
                """)
    }

    /// Version 2 of a layer: it may be the disk of a machine.
    static func addDisks(_ database: Database) throws {
        try database.alter(table: LayerRecord.databaseTableName) { table in
            table.add(column: "digest", .text).notNull().defaults(to: "")
            table.add(column: "virtualSize", .integer).notNull().defaults(to: 0)
        }
        try database.execute(sql: "UPDATE layer SET version = 2 WHERE version = 1")
    }
}
