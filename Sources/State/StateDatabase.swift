import Errors
import Foundation
import GRDB

/// The daemon's durable state: one SQLite file in WAL mode.
///
/// A write that returned is on disk (`synchronous = FULL`): it survives a kill of the daemon and a power loss, after which a ledger line
/// that was lost would be an address or a disk that nobody releases. Reads never wait for writes.
///
/// On a full file system nothing new is written, and what releases something is: it gets a reserve (``StateReserve``).
public final class StateDatabase: Sendable {
    /// What a transaction is for.
    public enum Purpose: Sendable {
        /// Something new: refused as long as the reserve is not whole.
        case addition
        /// Something ends, is given back, or has happened and must not be forgotten: takes from the reserve where there is no room else.
        case release
    }

    private let path: String
    private let pool: DatabasePool
    private let reserve: StateReserve

    /// Opens or creates the database and brings its schema up to date.
    ///
    /// - Throws: `SwiftletError(.failedPrecondition)` when the file was written by a newer Swiftlet or by another program, `.dataLoss`
    ///   when it is damaged. Nothing in it has been changed then. `.resourceExhausted` when its file system is full and the reserve is used
    ///   up.
    public init(path: String) throws {
        let reserve = StateReserve(path: path + ".reserve")
        do {
            // The files beside the database (wal, shm) are made anew at each start.
            pool = try Self.usingReserve(reserve) {
                try Self.check(path)
                return try Self.open(path)
            }
        } catch let error as DatabaseError where error.isFullDisk {
            throw Self.fullDisk(path, reserve, error)
        } catch let error as SwiftletError {
            throw error
        } catch {
            throw SwiftletError(.internal, "open state database \(path)", cause: error)
        }
        self.path = path
        self.reserve = reserve
        reserve.fill()
    }

    private static func open(_ path: String) throws -> DatabasePool {
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        let pool = try DatabasePool(path: path, configuration: configuration)
        // The pool sets NORMAL when it has opened its one connection that writes.
        try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
        try migrator.migrate(pool)
        return pool
    }

    /// Runs `body` again with more room as long as it finds the file system full.
    private static func usingReserve<Value>(_ reserve: StateReserve, _ body: () throws -> Value) throws -> Value {
        while true {
            do {
                return try body()
            } catch let error as DatabaseError where error.isFullDisk {
                guard reserve.give() else { throw error }
            }
        }
    }

    private static func fullDisk(_ path: String, _ reserve: StateReserve, _ cause: DatabaseError? = nil) -> SwiftletError {
        SwiftletError(
            .resourceExhausted,
            "the file system of the state database \(path) is full (\(reserve.available >> 10) KiB are available); make room there",
            cause: cause)
    }

    /// Why nothing new can be written; nil when it can.
    public var shortage: String? { reserve.isWhole || reserve.fill() ? nil : Self.fullDisk(path, reserve).message }

    /// What to do with a file that cannot be used.
    private static let advice =
        "Recover it with sqlite3's .recover, or put a copy of it in place; or move it away: then swiftletd ends the machines that it finds, "
        + "and images have to be pulled again"

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
                        "state database \(path) is damaged (\(damage.joined(separator: "; "))). \(advice)")
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
        } catch let error as DatabaseError where error.isFullDisk {
            throw error
        } catch {
            throw SwiftletError(.dataLoss, "state database \(path) cannot be read; is it a SQLite database? \(advice)", cause: error)
        }
    }

    /// Runs `body` in one read snapshot.
    public func read<Value: Sendable>(_ body: @Sendable @escaping (Database) throws -> Value) async throws -> Value {
        try await pool.read(body)
    }

    /// Runs `body` in one transaction: all of it or nothing.
    ///
    /// - Throws: `.resourceExhausted` when the file system is full; what `body` throws.
    public func write<Value: Sendable>(
        _ purpose: Purpose = .addition, _ body: @Sendable @escaping (Database) throws -> Value
    ) async throws -> Value {
        let (path, reserve) = (path, reserve)
        return try await pool.writeWithoutTransaction { database in
            do {
                switch purpose {
                case .addition:
                    guard reserve.fill() else { throw Self.fullDisk(path, reserve) }
                    return try Self.transaction(database, body)
                case .release: return try Self.usingReserve(reserve) { try Self.transaction(database, body) }
                }
            } catch let error as DatabaseError where error.isFullDisk {
                throw Self.fullDisk(path, reserve, error)
            }
        }
    }

    private static func transaction<Value>(_ database: Database, _ body: (Database) throws -> Value) throws -> Value {
        var value: Value?
        try database.inTransaction(.immediate) {
            value = try body(database)
            return .commit
        }
        guard let value else { throw SwiftletError(.internal, "a transaction ended without a result") }
        return value
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1 pods", migrate: PodSchema.create)
        migrator.registerMigration("1 images", migrate: ImageSchema.create)
        migrator.registerMigration("2 node", migrate: NodeSchema.create)
        migrator.registerMigration("images-2-layer-states", migrate: ImageSchema.addLayerStates)
        migrator.registerMigration("images-3-versions", migrate: ImageSchema.addVersions)
        migrator.registerMigration("images-4-users", migrate: ImageSchema.addUsers)
        migrator.registerMigration("images-5-disks", migrate: ImageSchema.addDisks)
        return migrator
    }
}

extension DatabaseError {
    /// Whether the file system had no room for what was to be written: of the database and its log, or of the log's index.
    fileprivate var isFullDisk: Bool { resultCode == .SQLITE_FULL || extendedResultCode == .SQLITE_IOERR_SHMSIZE }
}
