import Errors

/// Creations in flight, by the name that the client gave.
///
/// A retried request joins the attempt that runs and gets its result. A result that no caller was left to
/// take waits for the retry; once taken, the same name is a duplicate.
actor Attempts {
    /// A creation and those who wait for it. Only the actor touches it.
    private final class Attempt {
        let task: Task<String, any Error>
        var waiters = 0
        /// Whether somebody who was still there got the id.
        var claimed = false

        init(_ task: Task<String, any Error>) { self.task = task }
    }

    private var running: [String: Attempt] = [:]
    private var unclaimed: [String: (id: String, existing: @Sendable () -> String?)] = [:]
    /// Callers that wait for an attempt now.
    private(set) var waiting = 0
    /// Results that nobody took.
    var left: Int { unclaimed.count }

    /// - Parameter existing: the id that holds the name already, if one does. It may be asked again later.
    /// - Throws: `.alreadyExists` for a name whose id was handed out before.
    func run(
        _ key: String, what: String, existing: @escaping @Sendable () -> String?, _ body: @escaping @Sendable () async throws -> String
    ) async throws -> String {
        if let attempt = running[key] { return try await claim(key, attempt, existing) }
        if let id = existing() {
            if unclaimed.removeValue(forKey: key)?.id == id { return id }
            throw SwiftletError(.alreadyExists, "\(what) exists already with id \(id)")
        }
        // What was removed meanwhile nobody can take any more.
        unclaimed = unclaimed.filter { $0.value.existing() == $0.value.id }
        let attempt = Attempt(Task.detached { try await body() })
        running[key] = attempt
        return try await claim(key, attempt, existing)
    }

    /// Those who wait come back in any order: the last one to do so knows whether the id was taken.
    private func claim(_ key: String, _ attempt: Attempt, _ existing: @escaping @Sendable () -> String?) async throws -> String {
        waiting += 1
        attempt.waiters += 1
        let result = await attempt.task.result
        waiting -= 1
        attempt.waiters -= 1
        let id: String
        do {
            id = try result.get()
        } catch {
            if running[key] === attempt { running[key] = nil }
            throw error
        }
        if !Task.isCancelled { attempt.claimed = true }
        if attempt.waiters == 0 {
            running[key] = nil
            if !attempt.claimed { unclaimed[key] = (id, existing) }
        }
        return id
    }
}
