import Synchronization

/// Comes when a container has ended: what a source without an end of its own holds from then on is all.
public final class OutputEnd: Sendable {
    private struct State {
        var hasCome = false
        var listeners: [@Sendable () -> Void] = []
    }

    private let state = Mutex(State())

    public init() {}

    public var hasCome: Bool { state.withLock { $0.hasCome } }

    /// Idempotent.
    public func come() {
        let listeners = state.withLock { state in
            state.hasCome = true
            defer { state.listeners = [] }
            return state.listeners
        }
        for listener in listeners { listener() }
    }

    /// Runs once when it comes; at once if it already has.
    public func onCome(_ listener: @escaping @Sendable () -> Void) {
        let hasCome = state.withLock { state in
            if !state.hasCome { state.listeners.append(listener) }
            return state.hasCome
        }
        if hasCome { listener() }
    }
}
