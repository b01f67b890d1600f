import Errors
import Synchronization

/// The containers by id. An id is taken from the moment its creation begins until its release is over.
final class ContainerTable: Sendable {
    private enum Entry {
        /// Being created or released.
        case reserved
        case present(ContainerRecord)
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
            entries[id] = .reserved
        }
    }

    func enter(_ record: ContainerRecord) { entries.withLock { $0[record.id] = .present(record) } }

    /// Frees a reserved id. One that another call has entered stays.
    func cancel(_ id: String) {
        entries.withLock { entries in
            if case .reserved = entries[id] { entries[id] = nil }
        }
    }

    /// Takes a container out while its id stays reserved; nil when there is none.
    ///
    /// - Throws: `.aborted` while it is being created or released by another call.
    func beginDelete(_ id: String) throws(SwiftletError) -> ContainerRecord? {
        try entries.withLock { entries throws(SwiftletError) in
            switch entries[id] {
            case nil: return nil
            case .reserved: throw SwiftletError(.aborted, "container \(id) is just being created or deleted: try again")
            case .present(let record):
                entries[id] = .reserved
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
