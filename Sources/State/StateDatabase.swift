import Errors
import Foundation
import GRDB

/// The daemon's durable state: one SQLite file in WAL mode.
///
/// A write that returned is on disk (`synchronous = FULL`): it survives a kill of the daemon and a power loss, after which a ledger line
/// that was lost would be an address or a disk that nobody releases. Reads never wait for writes.
public final class StateDatabase: Sendable {
    private let pool: DatabasePool

    /// Opens or creates the database and brings its schema up to date.
    ///
    /// - Throws: `SwiftletError(.failedPrecondition)` when the file was written by a newer Swiftlet or by another program, `.dataLoss`
    ///   when it is damaged. Nothing in it has been changed then.
    public init(path: String) throws {
        try Self.check(path)
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        do {
            pool = try DatabasePool(path: path, configuration: configuration)
            // The pool sets NORMAL when it has opened its one connection that writes.
            try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
            try Self.migrator.migrate(pool)
        } catch {
            throw SwiftletError(.internal, "open state database \(path)", cause: error)
        }
    }

    /// Looks at the file through a connection that cannot write.
    private static func check(_ path: String) throws {
        guard let size = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int, size > 0 else { return }
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        do {
            try DatabaseQueue(path: path, configuration: configuration).read { database in
                let damage = try String.fetchAll(database, sql: "PRAGMA quick_check(3)").filter { $0 != "ok" }
                guard damage.isEmpty else {
                    throw SwiftletError(
                        .dataLoss,
                        "state database \(path) is damaged (\(damage.joined(separator: "; "))); stop the node's pods, move the file away, or "
                            + "recover it with sqlite3's .recover")
                }
                let tables = try String.fetchAll(database, sql: "SELECT name FROM sqlite_master WHERE type = 'table'")
                guard tables.isEmpty || tables.contains("grdb_migrations") else {
                    throw SwiftletError(
                        .failedPrecondition, "state database \(path) is another program's: it has no schema of Swiftlet's; check root")
                }
                guard try !migrator.hasBeenSuperseded(database) else {
                    let applied = try migrator.appliedIdentifiers(database).subtracting(migrator.migrations).sorted()
                    throw SwiftletError(
                        .failedPrecondition,
                        "state database \(path) was written by a newer version of Swiftlet, with schema \(applied.joined(separator: ", ")); "
                            + "start that version")
                }
            }
        } catch let error as SwiftletError {
            throw error
        } catch {
            throw SwiftletError(.dataLoss, "state database \(path) cannot be read; is it a SQLite database?", cause: error)
        }
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
        migrator.registerMigration("images-2-layer-states", migrate: ImageSchema.addLayerStates)
        migrator.registerMigration("images-3-versions", migrate: ImageSchema.addVersions)
        migrator.registerMigration("images-4-users", migrate: ImageSchema.addUsers)
        return migrator
    }
}
