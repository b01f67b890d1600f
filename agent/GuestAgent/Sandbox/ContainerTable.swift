import Errors
import Synchronization

/// The containers by id. An id is taken from the moment its creation begins until its release is over.
final class ContainerTable: Sendable {
    private enum Entry {
        /// - unwanted: it was deleted meanwhile.
        case beingCreated(unwanted: Bool)
        case present(ContainerRecord)
        case beingReleased
    }

    private static let limit = 1024

    private let entries = Mutex<[String: Entry]>([:])

    /// - Throws: `.alreadyExists` when the id is taken; `.resourceExhausted`.
    func reserve(_ id: String) throws(SwiftletError) {
        try requireContainerID(id)
        try entries.withLock { entries throws(SwiftletError) in
            guard entries[id] == nil else { throw SwiftletError(.alreadyExists, "container \(id) exists already") }
            guard entries.count < Self.limit else {
                throw SwiftletError(.resourceExhausted, "the guest already has \(Self.limit) containers")
            }
            entries[id] = .beingCreated(unwanted: false)
        }
    }

    /// - Throws: `.aborted` when the container was deleted while it was created; its id stays reserved.
    func enter(_ record: ContainerRecord) throws(SwiftletError) {
        try entries.withLock { entries throws(SwiftletError) in
            if case .beingCreated(unwanted: true) = entries[record.id] {
                throw SwiftletError(.aborted, "container \(record.id) was deleted while it was created")
            }
            entries[record.id] = .present(record)
        }
    }

    /// Holds a container that nobody asked for.
    func hold(_ record: ContainerRecord) { entries.withLock { $0[record.id] = .present(record) } }

    /// Frees a reserved id. One that another call has entered stays.
    func cancel(_ id: String) {
        entries.withLock { entries in
            switch entries[id] {
            case .beingCreated, .beingReleased: entries[id] = nil
            case .present, nil: break
            }
        }
    }

    /// Takes a container out while its id stays reserved; nil when there is none.
    ///
    /// - Throws: `.aborted` while it is being released by another call, or created: it is released then as soon as that is over.
    func beginDelete(_ id: String) throws(SwiftletError) -> ContainerRecord? {
        try entries.withLock { entries throws(SwiftletError) in
            switch entries[id] {
            case nil: return nil
            case .beingCreated:
                entries[id] = .beingCreated(unwanted: true)
                throw SwiftletError(.aborted, "container \(id) is just being created: it is deleted after that")
            case .beingReleased: throw SwiftletError(.aborted, "container \(id) is just being deleted: try again")
            case .present(let record):
                entries[id] = .beingReleased
                return record
            }
        }
    }

    func lookup(_ id: String) -> ContainerRecord? {
        entries.withLock { entries in
            if case .present(let record) = entries[id] { record } else { nil }
        }
    }

    /// - Throws: `.notFound`.
    func find(_ id: String) throws(SwiftletError) -> ContainerRecord {
        guard let record = lookup(id) else { throw SwiftletError(.notFound, "container \(printable(id))") }
        return record
    }

    var all: [ContainerRecord] {
        entries.withLock { entries in
            entries.values.compactMap { if case .present(let record) = $0 { record } else { nil } }
        }
    }
}
