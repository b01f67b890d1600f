import Concurrency
import Errors
import Runtime

/// Creations by the name that the client gave.
///
/// A retried request joins the creation that runs and gets its result. A result whose callers were all cancelled waits for the retry;
/// once taken, the same name is a duplicate.
actor Creations {
    private let flights = SingleFlight<String, String>(whenAbandoned: .finish)
    private var unclaimed: [String: (id: String, existing: @Sendable () -> String?)] = [:]

    /// Callers that wait for a creation now.
    var waiting: Int { flights.waiting }
    /// Results that nobody took.
    var left: Int { unclaimed.count }

    /// - Parameter existing: the id that holds the name already, if one does. It may be asked again later.
    /// - Throws: `.alreadyExists` for a name whose id was handed out before.
    func run(
        _ key: String, what: String, existing: @escaping @Sendable () -> String?, _ body: @escaping @Sendable () async throws -> String
    ) async throws -> String {
        let id = try await flights.run(key) { [self] in
            if let id = existing() {
                if await isUnclaimed(key, id) { return id }
                throw SwiftletError(.alreadyExists, "\(what) exists already with id \(id)")
            }
            let id = try await body()
            await offer(key, id, existing)
            return id
        }
        if !Task.isCancelled, isUnclaimed(key, id) { unclaimed[key] = nil }
        return id
    }

    private func isUnclaimed(_ key: String, _ id: String) -> Bool { unclaimed[key]?.id == id }

    /// Keeps the result until a caller that is still there takes it.
    private func offer(_ key: String, _ id: String, _ existing: @escaping @Sendable () -> String?) {
        // What was removed meanwhile nobody can take.
        unclaimed = unclaimed.filter { $0.value.existing() == $0.value.id }
        unclaimed[key] = (id, existing)
    }
}
