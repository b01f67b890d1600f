import Errors
import Foundation
import GRDB
import State
import Synchronization

/// Kinds of things that a pod owns outside the daemon's memory.
public enum ResourceKind: String, Codable, Sendable, CaseIterable {
    /// A directory of the pod's own.
    case directory
    case networkNamespace
    case networkAttachment
    case tap
    case scratchDisk
    case vsockDevice
    case machine
    /// The control group of the pod's processes on the node.
    case cgroup
    /// The directory that the guest sees, with all that is mounted in it.
    case share
    /// The process that serves it.
    case shareDaemon
    /// One container's mounts in it.
    case shareMounts
    /// The hold on an image's layers.
    case imageLease

    /// Whether it is acquired for a container, in its creation, instead of in the sandbox's start.
    var isForContainers: Bool {
        switch self {
        case .share, .shareDaemon, .shareMounts, .imageLease: true
        case .directory, .networkNamespace, .networkAttachment, .tap, .scratchDisk, .vsockDevice, .machine, .cgroup: false
        }
    }

    /// Whether its document is a `ProcessDocument`.
    var isProcess: Bool {
        switch self {
        case .vsockDevice, .machine, .shareDaemon: true
        case .directory, .networkNamespace, .networkAttachment, .tap, .scratchDisk, .cgroup, .share, .shareMounts, .imageLease: false
        }
    }
}

/// One resource in the ledger.
public struct LedgerEntry: Sendable, Equatable {
    public var owner: String
    public var kind: ResourceKind
    /// Chosen before the resource exists.
    public var name: String
    /// JSON of what the release needs beside the name.
    public var document: Data

    func decoded<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: document)
    }
}

/// What one owner (a sandbox or a container) holds outside the daemon's memory.
///
/// A resource is written down before it is acquired and struck out after its release succeeded, so at
/// every moment the ledger lists at least what exists.
public struct Ledger: Sendable {
    public let owner: String
    private let database: StateDatabase
    private let seal = Seal()

    /// Whether nothing may be added any more.
    private final class Seal: Sendable {
        private let closed = Mutex(false)
        var isClosed: Bool { closed.withLock { $0 } }
        func close() { closed.withLock { $0 = true } }
    }

    public init(owner: String, database: StateDatabase) {
        self.owner = owner
        self.database = database
    }

    /// Writes the resource down, then acquires it. The entry stays when `body` throws: the release is idempotent
    /// and finds out what there is to undo.
    func acquire<Document: Encodable & Sendable, Value: Sendable>(
        _ kind: ResourceKind, _ name: String, _ document: Document, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        try await note(kind, name, document)
        return try await body()
    }

    /// Acquires a resource whose name says all that its release needs.
    func acquire<Value: Sendable>(_ kind: ResourceKind, _ name: String, _ body: @Sendable () async throws -> Value) async throws -> Value {
        try await acquire(kind, name, [String: String](), body)
    }

    /// Writes or replaces an entry.
    func note<Document: Encodable & Sendable>(_ kind: ResourceKind, _ name: String, _ document: Document) async throws {
        let data = try JSONEncoder().encode(document)
        let (owner, seal) = (owner, seal)
        try await database.write { database in
            guard !seal.isClosed else { throw SwiftletError(.aborted, "\(kind.rawValue) \(name): its owner is being released") }
            let stored = try ResourceRecord.filter { $0.owner == owner && $0.kind == kind.rawValue && $0.name == name }.fetchOne(database)
            if var record = stored {
                record.document = data
                try record.update(database)
            } else {
                var record = ResourceRecord(owner: owner, kind: kind.rawValue, name: name, document: data)
                try record.insert(database)
            }
        }
    }

    /// From now on nothing is acquired: what is listed is all there will be to release.
    func close() {
        seal.close()
    }

    /// What is held, in the order of acquisition.
    func entries() async throws -> [LedgerEntry] {
        let owner = owner
        // Behind every write in flight: none of them can add to what is read here once the ledger is closed.
        return try await database.write { database in
            try ResourceRecord.filter { $0.owner == owner }.order { $0.sequence }.fetchAll(database)
        }.compactMap { record in
            ResourceKind(rawValue: record.kind).map {
                LedgerEntry(owner: record.owner, kind: $0, name: record.name, document: record.document)
            }
        }
    }

    /// Strikes out a resource that was released.
    func strike(_ entry: LedgerEntry) async throws {
        _ = try await database.write { database in
            try ResourceRecord.filter { $0.owner == entry.owner && $0.kind == entry.kind.rawValue && $0.name == entry.name }
                .deleteAll(database)
        }
    }
}

/// A resource that could not be released yet.
struct PendingRelease: Sendable {
    var entry: LedgerEntry
    var reason: String
}

extension Ledger {
    /// Releases everything in reverse order, each entry on a deadline of its own.
    ///
    /// A failure does not stop the rest. What fails stays in the ledger and is returned.
    func releaseAll(
        within limit: Duration = .seconds(30), by release: @escaping @Sendable (LedgerEntry) async throws -> Void
    ) async -> [PendingRelease] {
        var pending: [PendingRelease] = []
        do {
            for entry in try await entries().reversed() {
                do {
                    try await withDeadline(limit, "release \(entry.kind.rawValue) \(entry.name)") { try await release(entry) }
                    try await strike(entry)
                } catch {
                    pending.append(PendingRelease(entry: entry, reason: "\(error)"))
                }
            }
        } catch {
            let ledger = LedgerEntry(owner: owner, kind: .directory, name: "ledger", document: Data())
            pending.append(PendingRelease(entry: ledger, reason: "read the ledger: \(error)"))
        }
        return pending
    }
}
