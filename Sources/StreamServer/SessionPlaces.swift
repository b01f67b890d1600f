import Errors
import Synchronization

/// How many sessions there may be at once, with those that wait for their clients.
public struct SessionLimits: Sendable, Equatable {
    /// Exec and attach of one container.
    public var container = 64
    /// Of one pod: its containers' and its port-forwards.
    public var pod = 128
    /// Of all pods.
    public var node = 1000

    public init() {}

    public init(container: Int, pod: Int, node: Int) { (self.container, self.pod, self.node) = (container, pod, node) }
}

/// Counts the sessions, so that one tenant's leave room for the others'.
public final class SessionPlaces: Sendable {
    private struct State {
        var limits: SessionLimits
        var containers: [String: Int] = [:]
        var pods: [String: Int] = [:]
        var total = 0
    }

    private let state: Mutex<State>

    public init(limits: SessionLimits = SessionLimits()) { state = Mutex(State(limits: limits)) }

    /// Smaller ones end no session.
    public var limits: SessionLimits {
        get { state.withLock { $0.limits } }
        set { state.withLock { $0.limits = newValue } }
    }

    /// - Throws: `.resourceExhausted` naming the limit that is reached.
    func take(for request: StreamRequest) throws -> SessionPlace {
        let (container, pod) = (request.container, request.pod)
        try state.withLock { state in
            if let container, state.containers[container, default: 0] >= state.limits.container {
                throw Self.refusal("container \(container) has", state.limits.container)
            }
            guard state.pods[pod, default: 0] < state.limits.pod else { throw Self.refusal("the pod has", state.limits.pod) }
            guard state.total < state.limits.node else { throw Self.refusal("the node has", state.limits.node) }
            if let container { state.containers[container, default: 0] += 1 }
            state.pods[pod, default: 0] += 1
            state.total += 1
        }
        return SessionPlace(self, container: container, pod: pod)
    }

    private static func refusal(_ subject: String, _ limit: Int) -> SwiftletError {
        SwiftletError(.resourceExhausted, "\(subject) \(limit) sessions, those that wait for their clients included; end one")
    }

    fileprivate func release(container: String?, pod: String) {
        state.withLock { state in
            if let container { Self.decrement(&state.containers, container) }
            Self.decrement(&state.pods, pod)
            state.total -= 1
        }
    }

    private static func decrement(_ counts: inout [String: Int], _ key: String) {
        guard let count = counts[key] else { return }
        counts[key] = count > 1 ? count - 1 : nil
    }
}

/// A session's place among the others', from its URL on. It is free again when the last reference goes: with a token that expires as with
/// the session.
final class SessionPlace: Sendable {
    private let places: SessionPlaces
    private let container: String?
    private let pod: String

    fileprivate init(_ places: SessionPlaces, container: String?, pod: String) {
        (self.places, self.container, self.pod) = (places, container, pod)
    }

    deinit { places.release(container: container, pod: pod) }
}
