import Errors
import GRDB

/// The daemon's durable state: one SQLite file in WAL mode.
///
/// A write that returned is on its way to disk with `synchronous = NORMAL`: it survives a kill of the
/// daemon at any moment. Reads never wait for writes.
public final class StateDatabase: Sendable {
    private let pool: DatabasePool

    /// Opens or creates the database and brings its schema up to date.
    ///
    /// - Throws: `SwiftletError(.failedPrecondition)` when the file was written by a newer Swiftlet.
    public init(path: String) throws {
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { database in
            try database.execute(sql: "PRAGMA synchronous = NORMAL")
        }
        pool = try DatabasePool(path: path, configuration: configuration)
        let migrator = Self.migrator
        if try pool.read(migrator.hasBeenSuperseded) {
            throw SwiftletError(.failedPrecondition, "state database \(path) was written by a newer version of Swiftlet")
        }
        try migrator.migrate(pool)
    }

    /// Runs `body` in one read snapshot.
    public func read<Value: Sendable>(_ body: @Sendable @escaping (Database) throws -> Value) async throws -> Value {
        try await pool.read(body)
    }

    /// Runs `body` in one transaction: all of it or nothing.
    public func write<Value: Sendable>(_ body: @Sendable @escaping (Database) throws -> Value) async throws -> Value {
        try await pool.write(body)
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1 pods", migrate: PodSchema.create)
        migrator.registerMigration("1 images", migrate: ImageSchema.create)
        migrator.registerMigration("2 node", migrate: NodeSchema.create)
        return migrator
    }
}
