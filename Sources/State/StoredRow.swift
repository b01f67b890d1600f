import Errors
import GRDB

/// A row of the state database whose columns are the document, with its version in a column of that name.
///
/// Rows outlive releases as ``StoredDocument``s do. A migration brings those of older versions up to date, all at once; one of a newer
/// version is refused by its number. Rows that only relate others (names, leases, an image's layers) have the schema's version.
public protocol StoredRow: FetchableRecord, PersistableRecord {
    /// For messages: "image record".
    static var what: String { get }
    static var version: Int { get }
    /// - Throws: `.dataLoss` for what is no such row; `.failedPrecondition` for one of a newer version.
    init(row: Row) throws
}

extension StoredRow {
    static func checkVersion(_ row: Row) throws {
        let version: Int = try column("version", of: row)
        guard (1...Self.version).contains(version) else {
            throw SwiftletError(
                .failedPrecondition,
                "\(what) of version \(version); this Swiftlet knows versions up to \(Self.version): start the one that wrote it")
        }
    }

    /// SQLite keeps any type in any column. The error names the column without its contents.
    static func column<Value: DatabaseValueConvertible>(_ name: String, of row: Row) throws -> Value {
        guard let value = Value.fromDatabaseValue(row[name]) else {
            throw SwiftletError(.dataLoss, "\(what) cannot be read: \(name) is of another type")
        }
        return value
    }

    /// The row, or why it cannot be read.
    static func found(_ row: Row) -> Result<Self, SwiftletError> {
        Result { try Self(row: row) }.mapError { $0 as? SwiftletError ?? SwiftletError.wrap($0, what) }
    }
}
