import Errors
import Runtime

/// How a container's first process ended.
public struct ContainerExit: Codable, Sendable, Equatable {
    /// 0 to 255; 128 + signal for a process ended by a signal.
    public var code: Int32
    /// Unix time in nanoseconds.
    public var finishedAt: Int64
    /// As the kubelet shows it: Completed, Error, OOMKilled, ContainerCannotRun, StartError, ...
    public var reason: String
    public var message: String

    public init(code: Int32, finishedAt: Int64, reason: String, message: String = "") {
        self.code = code
        self.finishedAt = finishedAt
        self.reason = reason
        self.message = message
    }
}

/// Where a container is in its life; the CRI's states are derived from it.
public enum ContainerState: Codable, Sendable, Equatable {
    case created
    case running(startedAt: Int64)
    case exited(startedAt: Int64, ContainerExit)
    case removed

    public var name: String {
        switch self {
        case .created: "created"
        case .running: "running"
        case .exited: "exited"
        case .removed: "removed"
        }
    }

    /// Unix time in nanoseconds; 0 before the start.
    public var startedAt: Int64 {
        switch self {
        case .running(let startedAt), .exited(let startedAt, _): startedAt
        case .created, .removed: 0
        }
    }

    public var exit: ContainerExit? {
        if case .exited(_, let exit) = self { exit } else { nil }
    }

    /// The transitions that may be persisted.
    func allows(_ next: ContainerState) -> Bool {
        switch (self, next) {
        case (.created, .running), (.created, .exited), (.running, .exited), (.created, .removed), (.exited, .removed): true
        default: false
        }
    }
}

/// A container's life as pure transitions.
struct ContainerStateMachine: Sendable {
    enum Event: Sendable {
        case started(at: Int64)
        case exited(ContainerExit)
        case removeRequested
    }

    private(set) var state: ContainerState

    init(state: ContainerState = .created) {
        self.state = state
    }

    /// - Returns: whether the state changed.
    /// - Throws: `.failedPrecondition` when the event does not fit the state.
    mutating func handle(_ event: Event) throws -> Bool {
        let next: ContainerState
        switch (event, state) {
        case (.started(let time), .created): next = .running(startedAt: time)
        case (.exited(let exit), .created): next = .exited(startedAt: 0, exit)
        case (.exited(let exit), .running(let startedAt)): next = .exited(startedAt: startedAt, exit)
        case (.exited, .exited): return false
        case (.removeRequested, .created), (.removeRequested, .exited): next = .removed
        default: throw SwiftletError(.failedPrecondition, "container is \(state.name)")
        }
        guard state.allows(next) else {
            throw SwiftletError(.internal, "container may not go from \(state.name) to \(next.name)")
        }
        state = next
        return true
    }
}
