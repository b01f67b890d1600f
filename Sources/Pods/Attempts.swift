import Errors

/// Creations in flight, by the name that the client gave.
///
/// A retried request joins the attempt that runs and gets its result. A result that no caller was left to
/// take waits for the retry; once taken, the same name is a duplicate.
actor Attempts {
    private var running: [String: Task<String, any Error>] = [:]
    private var unclaimed: [String: String] = [:]
    /// Callers that wait for an attempt now.
    private(set) var waiting = 0

    /// - Parameter existing: the id that holds the name already, if one does.
    /// - Throws: `.alreadyExists` for a name whose id was handed out before.
    func run(
        _ key: String, what: String, existing: @Sendable () -> String?, _ body: @escaping @Sendable () async throws -> String
    ) async throws -> String {
        if let task = running[key] { return try await claim(key, task) }
        if let id = existing() {
            if unclaimed.removeValue(forKey: key) == id { return id }
            throw SwiftletError(.alreadyExists, "\(what) exists already with id \(id)")
        }
        unclaimed[key] = nil
        let task = Task.detached { try await body() }
        running[key] = task
        return try await claim(key, task)
    }

    private func claim(_ key: String, _ task: Task<String, any Error>) async throws -> String {
        waiting += 1
        let result = await task.result
        waiting -= 1
        if running[key] == task { running[key] = nil }
        let id = try result.get()
        if Task.isCancelled {
            unclaimed[key] = id
        } else {
            unclaimed[key] = nil
        }
        return id
    }
}
