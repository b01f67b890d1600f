import Errors
import Foundation
import GRDB
import State

/// A sandbox as it is kept on disk.
struct SandboxDocument: Codable, Sendable {
    var spec: SandboxSpec
    var state: SandboxState
}

/// A container as it is kept on disk.
struct ContainerDocument: Codable, Sendable {
    var spec: ContainerSpec
    var imageID: String
    var state: ContainerState
    var logPath: String
    var stopSignal: Int32
    var user: ContainerUser?
}

/// What the heart keeps in the state database.
struct PodStore: Sendable {
    struct Stored: Sendable {
        var sandboxes: [(id: String, createdAt: Int64, document: SandboxDocument)] = []
        var containers: [(id: String, sandboxID: String, createdAt: Int64, document: ContainerDocument)] = []
        /// Ids of records that cannot be read, with the reason.
        var unreadable: [(id: String, reason: String)] = []
    }

    let database: StateDatabase

    func save(_ snapshot: SandboxSnapshot) async throws {
        let document = try JSONEncoder().encode(SandboxDocument(spec: snapshot.spec, state: snapshot.state))
        let record = SandboxRecord(id: snapshot.id, state: snapshot.state.name, createdAt: snapshot.createdAt, document: document)
        try await database.write { try record.save($0) }
    }

    func save(_ snapshot: ContainerSnapshot) async throws {
        let document = ContainerDocument(
            spec: snapshot.spec, imageID: snapshot.imageID, state: snapshot.state,
            logPath: snapshot.logPath, stopSignal: snapshot.stopSignal, user: snapshot.user)
        let record = ContainerRecord(
            id: snapshot.id, sandboxID: snapshot.sandboxID, state: snapshot.state.name, createdAt: snapshot.createdAt,
            document: try JSONEncoder().encode(document))
        try await database.write { try record.save($0) }
    }

    func deleteSandbox(_ id: String) async throws {
        _ = try await database.write { try SandboxRecord.deleteOne($0, key: id) }
    }

    func deleteContainer(_ id: String) async throws {
        _ = try await database.write { try ContainerRecord.deleteOne($0, key: id) }
    }

    /// Everything, for the recovery at start. A record that cannot be read is reported, not fatal.
    func load() async throws -> Stored {
        let (sandboxes, containers) = try await database.read { database in
            (try SandboxRecord.fetchAll(database), try ContainerRecord.fetchAll(database))
        }
        var stored = Stored()
        let decoder = JSONDecoder()
        for record in sandboxes {
            do {
                let document = try decoder.decode(SandboxDocument.self, from: record.document)
                stored.sandboxes.append((record.id, record.createdAt, document))
            } catch {
                stored.unreadable.append((record.id, "\(error)"))
            }
        }
        for record in containers {
            do {
                let document = try decoder.decode(ContainerDocument.self, from: record.document)
                stored.containers.append((record.id, record.sandboxID, record.createdAt, document))
            } catch {
                stored.unreadable.append((record.id, "\(error)"))
            }
        }
        return stored
    }
}
