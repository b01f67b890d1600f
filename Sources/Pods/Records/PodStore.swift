import Errors
import Foundation
import GRDB
import Runtime
import State

/// What the heart keeps in the state database.
struct PodStore: Sendable {
    /// A record as it was found: its document, or why there is none.
    struct Found<Document: Sendable>: Sendable {
        var id: String
        var createdAt: Int64
        var document: Result<Document, SwiftletError>
        /// As it is stored.
        var bytes: Data
    }

    struct Stored: Sendable {
        var sandboxes: [Found<SandboxDocument>] = []
        /// By the sandbox's id.
        var containers: [String: [Found<ContainerDocument>]] = [:]
    }

    let database: StateDatabase

    func save(_ snapshot: SandboxSnapshot) async throws {
        let document = try SandboxDocument(spec: snapshot.spec, state: snapshot.state).stored()
        let record = SandboxRecord(id: snapshot.id, state: snapshot.state.name, createdAt: snapshot.createdAt, document: document)
        // What has happened must not be forgotten, and least of all the end.
        try await database.write(snapshot.state.isBeginning ? .addition : .release) { try record.save($0) }
    }

    func save(_ snapshot: ContainerSnapshot) async throws {
        let document = ContainerDocument(
            spec: snapshot.spec, imageID: snapshot.imageID, state: snapshot.state,
            logPath: snapshot.logPath, stopSignal: snapshot.stopSignal, user: snapshot.user)
        let record = ContainerRecord(
            id: snapshot.id, sandboxID: snapshot.sandboxID, state: snapshot.state.name, createdAt: snapshot.createdAt,
            document: try document.stored())
        try await database.write(snapshot.state == .created ? .addition : .release) { try record.save($0) }
    }

    func deleteSandbox(_ id: String) async throws {
        _ = try await database.write(.release) { try SandboxRecord.deleteOne($0, key: id) }
    }

    func deleteContainer(_ id: String) async throws {
        _ = try await database.write(.release) { try ContainerRecord.deleteOne($0, key: id) }
    }

    /// Everything, for the recovery at start. A record that cannot be read is found as such.
    func load() async throws -> Stored {
        try await database.read { database in
            var stored = Stored()
            for row in try Row.fetchAll(database, sql: "SELECT * FROM sandbox") {
                stored.sandboxes.append(Self.found(row))
            }
            for row in try Row.fetchAll(database, sql: "SELECT * FROM container") {
                stored.containers[row.text("sandboxID"), default: []].append(Self.found(row))
            }
            return stored
        }
    }

    private static func found<Document: StoredDocument>(_ row: Row) -> Found<Document> {
        let bytes = row.bytes("document")
        let document = Result { try Document(stored: bytes) }.mapError { SwiftletError.wrap($0, "read the state") }
        return Found(id: row.text("id"), createdAt: Int64.fromDatabaseValue(row["createdAt"]) ?? 0, document: document, bytes: bytes)
    }
}

extension Row {
    /// SQLite keeps any type in any column: a damaged row must not end the reading of the others.
    fileprivate func text(_ column: String) -> String { String.fromDatabaseValue(self[column]) ?? "" }
    fileprivate func bytes(_ column: String) -> Data { Data.fromDatabaseValue(self[column]) ?? Data() }
}
