import Concurrency
import Errors
import Foundation
import GRDB
import State
import Synchronization

/// What one owner (a sandbox or a container) holds outside the daemon's memory.
///
/// A resource is written down before it is acquired and struck out after its release succeeded, so at every moment the ledger lists at
/// least what exists. The entries are in memory; the database is their journal. There is one ledger for each owner in the daemon.
public final class Ledger: Sendable {
    fileprivate struct State {
        var entries: [LedgerEntry]
        var isClosed = false
    }

    public let owner: String
    private let database: StateDatabase
    private let state: Mutex<State>
    /// Changes of the entries, one after the other: memory follows the journal in its order.
    private let changes = SerialQueue()

    /// - Parameter entries: what an earlier daemon wrote down for this owner; none for a new one.
    public init(owner: String, database: StateDatabase, entries: [LedgerEntry] = []) {
        self.owner = owner
        self.database = database
        state = Mutex(State(entries: entries.sorted { $0.sequence < $1.sequence }))
    }

    /// What an earlier daemon wrote down, by owner.
    package static func stored(in database: StateDatabase) async throws -> [String: [LedgerEntry]] {
        let records = try await database.read { database in
            try Row.fetchAll(database, sql: "SELECT * FROM resource ORDER BY sequence").compactMap { try? ResourceRecord(row: $0) }
        }
        return Dictionary(grouping: records.map { LedgerEntry($0) }, by: \.owner)
    }

    // MARK: Acquire

    /// Writes the resource down, then acquires it. The entry stays when `body` throws: the release is idempotent and finds out what
    /// there is to undo.
    public func acquire<Document: StoredDocument, Value: Sendable>(
        _ kind: ResourceKind, _ name: String, _ document: Document, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        try Task.checkCancellation()
        try await note(kind, name, document)
        return try await Failpoint.pass("acquire \(kind)", around: body)
    }

    /// Acquires a resource whose name says all that its release needs.
    public func acquire<Value: Sendable>(
        _ kind: ResourceKind, _ name: String, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        try await acquire(kind, name, EmptyDocument(), body)
    }

    /// Writes or replaces an entry.
    ///
    /// - Throws: `.aborted` once the ledger is closed.
    public func note(_ kind: ResourceKind, _ name: String, _ document: some StoredDocument) async throws {
        let data = try document.stored()
        try await changes.run { [self] in
            guard !isClosed else { throw SwiftletError(.aborted, "\(kind) \(name): its owner is being released") }
            let entry = try await journal(kind, name, data)
            state.withLock { state in
                state.entries.removeAll { $0.kind == kind && $0.name == name }
                state.insert(entry)
            }
        }
    }

    private func journal(_ kind: ResourceKind, _ name: String, _ document: Data) async throws -> LedgerEntry {
        let owner = owner
        return try await database.write(.addition) { database in
            let stored = try Self.records(of: owner, kind, name).fetchOne(database)
            var record = stored ?? ResourceRecord(owner: owner, kind: kind.rawValue, name: name, document: document)
            record.document = document
            try record.save(database)
            return LedgerEntry(record)
        }
    }

    private static func records(of owner: String, _ kind: ResourceKind, _ name: String) -> QueryInterfaceRequest<ResourceRecord> {
        ResourceRecord.filter { $0.owner == owner && $0.kind == kind.rawValue && $0.name == name }
    }

    /// From now on nothing is acquired: what is listed is all there will be to release.
    public func close() {
        state.withLock { $0.isClosed = true }
    }

    private var isClosed: Bool { state.withLock { $0.isClosed } }

    // MARK: Read

    /// What is held, in the order of acquisition.
    public var entries: [LedgerEntry] { state.withLock { $0.entries } }

    /// The first entry of a kind.
    public func entry(_ kind: ResourceKind) -> LedgerEntry? { entries.first { $0.kind == kind } }

    /// Entries of one kind whose names begin with `prefix`, of all owners.
    package func all(_ kind: ResourceKind, named prefix: String) async throws -> [LedgerEntry] {
        try await database.read { database in
            // Not LIKE, to which some characters of a name mean more.
            try ResourceRecord.filter { $0.kind == kind.rawValue }.fetchAll(database).filter { $0.name.hasPrefix(prefix) }
        }.map { LedgerEntry($0) }
    }

    // MARK: Hand over

    /// Hands all entries to another owner, in one transaction. This ledger is empty and closed then.
    ///
    /// Among the heir's entries they are the latest, in the order that they had: what the heir acquired before may be what they stand in,
    /// as its control group, and is released after them.
    ///
    /// - Throws: `.aborted` when either owner is being released; nothing has changed then.
    public func transfer(to heir: Ledger) async throws {
        try await transfer(to: heir, closes: true) { _ in true }
    }

    /// Hands some entries to another owner, as ``transfer(to:)``. This ledger stays open.
    public func transfer(to heir: Ledger, where isHanded: @escaping @Sendable (LedgerEntry) -> Bool) async throws {
        try await transfer(to: heir, closes: false, where: isHanded)
    }

    private func transfer(
        to heir: Ledger, closes: Bool, where isHanded: @escaping @Sendable (LedgerEntry) -> Bool
    ) async throws {
        try await changes.run { [self] in
            try await heir.changes.run { [self] in
                guard !isClosed, !heir.isClosed else {
                    throw SwiftletError(.aborted, "hand what \(owner) holds to \(heir.owner): one of them is being released")
                }
                let (handed, new) = (entries.filter(isHanded), heir.owner)
                let moved = try await database.write(.addition) { database in
                    try handed.map { entry in
                        try Self.records(of: entry.owner, entry.kind, entry.name).deleteAll(database)
                        var record = ResourceRecord(
                            owner: new, kind: entry.kind.rawValue, name: entry.name, document: entry.document)
                        try record.insert(database)
                        return LedgerEntry(record)
                    }
                }
                state.withLock { state in
                    if closes { state.isClosed = true }
                    state.entries.removeAll(where: isHanded)
                }
                heir.state.withLock { state in
                    for entry in moved { state.insert(entry) }
                }
            }
        }
    }

    // MARK: Release

    /// Releases everything in reverse order, each entry on a deadline of its own; those whose releasers say so begin at once.
    ///
    /// A failure does not stop the rest. What fails stays in the ledger and is returned.
    ///
    /// - Parameters:
    ///   - earlier: what could not be released of those whose directories lie in this owner's.
    ///   - blocked: why an entry that was released has to stay listed, to be released again; nil when it has not.
    package func releaseAll(
        within limit: Duration = .seconds(30), by releasers: Releasers, after earlier: [PendingRelease] = [],
        blocked: @escaping @Sendable (LedgerEntry) -> String? = { _ in nil }
    ) async -> [PendingRelease] {
        // Behind every change in flight: none of them can add to what is read here once the ledger is closed.
        await changes.drained()
        var pending: [PendingRelease] = []
        let entries = entries
        let begun = Dictionary(
            entries.filter { releasers.beginsAtOnce($0.kind) }.map { entry in
                (entry.sequence, Task { try await Self.release(entry, within: limit, by: releasers) })
            }, uniquingKeysWith: { first, _ in first })
        for entry in entries.reversed() {
            do {
                if entry.kind == .imageLease, pending.contains(where: { [.layerDisks, .machine].contains($0.entry.kind) }) {
                    throw SwiftletError(.unavailable, "its files are still disks of a machine")
                }
                if entry.kind == .directory, let user = (earlier + pending).first(where: { $0.entry.kind == .userProcesses })?.entry.name {
                    throw SwiftletError(.unavailable, "user \(user), who may write to it, has processes that have not ended")
                }
                if entry.kind == .user, let other = pending.first?.entry {
                    throw SwiftletError(.unavailable, "\(other.kind) \(other.name), which may be this user's, is not released")
                }
                if let release = begun[entry.sequence] {
                    try await release.value
                } else {
                    try await Self.release(entry, within: limit, by: releasers)
                }
                if let reason = blocked(entry) { throw SwiftletError(.unavailable, reason) }
                try await strike(entry)
            } catch {
                pending.append(PendingRelease(entry: entry, reason: "\(error)"))
            }
        }
        return pending
    }

    private static func release(_ entry: LedgerEntry, within limit: Duration, by releasers: Releasers) async throws {
        try await withDeadline(limit, "release \(entry.kind) \(entry.name)") {
            try await Failpoint.pass("release \(entry.kind)") { try await releasers.release(entry) }
        }
    }

    /// Strikes out a resource that was released.
    private func strike(_ entry: LedgerEntry) async throws {
        try await changes.run { [self] in
            let records = Self.records(of: owner, entry.kind, entry.name)
            _ = try await database.write(.release) { try records.deleteAll($0) }
            state.withLock { $0.entries.removeAll { $0.kind == entry.kind && $0.name == entry.name } }
        }
    }
}

extension Ledger.State {
    fileprivate mutating func insert(_ entry: LedgerEntry) {
        let index = entries.firstIndex { $0.sequence > entry.sequence } ?? entries.endIndex
        entries.insert(entry, at: index)
    }
}

extension LedgerEntry {
    fileprivate init(_ record: ResourceRecord) {
        self.init(
            owner: record.owner, kind: ResourceKind(record.kind), name: record.name, document: record.document,
            sequence: record.sequence ?? 0)
    }
}
