import Concurrency
import Errors
import Logging
import Runtime
import Synchronization

/// Creations by the name that the client gave.
///
/// A retried request joins the creation that runs and gets its result. A creation whose callers have all gone, by their own deadlines or
/// with their connections, is undone unless a retry takes it within a short grace; who names its id in another call takes it as well.
final class Creations: Sendable {
    /// One name that is asked for.
    struct Request: Sendable {
        var key: String
        /// For messages.
        var what: String
        /// The id that holds the name already, if one does. It may be asked again later.
        var existing: @Sendable () -> String?
        /// Removes what was created and nobody has taken.
        var undo: @Sendable (_ id: String) async -> Void
    }

    private struct State {
        /// Ids that nobody has taken, by key.
        var unclaimed: [String: String] = [:]
        var undoing: [String: Task<Void, Never>] = [:]
    }

    private let flights: SingleFlight<String, String>
    private let grace: Duration
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameter cancels: whether a creation that nobody waits for is cancelled; else it comes to its end and is undone then.
    init(grace: Duration, cancels: Bool, logger: Logger) {
        self.grace = grace
        self.logger = logger
        flights = SingleFlight(whenAbandoned: cancels ? .cancelAfter(grace) : .finish)
    }

    /// Callers that wait for a creation now.
    var waiting: Int { flights.waiting }
    /// Results that nobody took.
    var left: Int { state.withLock { $0.unclaimed.count } }

    /// - Throws: `.alreadyExists` for a name whose id was handed out before.
    func run(_ request: Request, _ body: @escaping @Sendable () async throws -> String) async throws -> String {
        await state.withLock { $0.undoing[request.key] }?.value
        let id = try await withTaskCancellationHandler {
            try await flights.run(request.key) { [self] in
                if let id = request.existing() {
                    if isUnclaimed(request.key, id) { return id }
                    throw SwiftletError(.alreadyExists, "\(request.what) exists already with id \(id)")
                }
                let id = try await body()
                state.withLock { $0.unclaimed[request.key] = id }
                return id
            }
        } onCancel: {
            logger.notice(
                "the client has given up a creation: it is undone unless a retry comes",
                metadata: ["of": "\(request.what)", "within": "\(grace)"])
        }
        if Task.isCancelled { expire(request, id) } else { claim(id) }
        return id
    }

    /// Somebody uses what was created.
    func claim(_ id: String) {
        state.withLock { state in
            guard !state.unclaimed.isEmpty else { return }
            state.unclaimed = state.unclaimed.filter { $0.value != id }
        }
    }

    private func isUnclaimed(_ key: String, _ id: String) -> Bool { state.withLock { $0.unclaimed[key] == id } }

    /// Undoes the creation after the grace, if it is nobody's then.
    private func expire(_ request: Request, _ id: String) {
        guard isUnclaimed(request.key, id) else { return }
        Task {
            try? await Task.sleep(for: grace)
            let undo: Task<Void, Never>? = state.withLock { state in
                guard state.unclaimed[request.key] == id else { return nil }
                state.unclaimed[request.key] = nil
                let undo = Task { await request.undo(id) }
                state.undoing[request.key] = undo
                return undo
            }
            guard let undo else { return }
            logger.notice("nobody has taken what was created: it is removed", metadata: ["what": "\(request.what)", "id": "\(id)"])
            await undo.value
            state.withLock { if $0.undoing[request.key] == undo { $0.undoing[request.key] = nil } }
        }
    }
}
