import Errors
import Runtime

/// Where a sandbox is in its life. `ready` alone is READY to the kubelet.
public enum SandboxState: Codable, Sendable, Equatable {
    case reserved
    /// - Parameter phase: how far the handler has come, in its own words.
    case starting(SandboxNetwork?, phase: String)
    case ready(SandboxNetwork)
    /// As ready, but nothing in it runs.
    case paused(SandboxNetwork)
    case stopping(SandboxNetwork?)
    case stopped
    /// The start failed or the machine was lost; resources may still wait for release.
    case failed(step: String)
    case removed

    /// The name that is stored and shown.
    public var name: String {
        switch self {
        case .reserved: "reserved"
        case .starting: "starting"
        case .ready: "ready"
        case .paused: "paused"
        case .stopping: "stopping"
        case .stopped: "stopped"
        case .failed: "failed"
        case .removed: "removed"
        }
    }

    /// Whether the sandbox has its machine.
    var isUp: Bool {
        switch self {
        case .ready, .paused: true
        default: false
        }
    }

    /// Whether the sandbox is not up yet.
    var isBeginning: Bool {
        switch self {
        case .reserved, .starting: true
        default: false
        }
    }

    /// The network that the state carries.
    public var network: SandboxNetwork? {
        switch self {
        case .ready(let network), .paused(let network): network
        case .starting(let network, _), .stopping(let network): network
        case .reserved, .stopped, .failed, .removed: nil
        }
    }

    /// The transitions that may be persisted, whatever the machine below thinks.
    func allows(_ next: SandboxState) -> Bool {
        switch (self, next) {
        case (.reserved, .starting), (.starting, .starting), (.starting, .ready), (.ready, .paused), (.paused, .ready): true
        case (.reserved, .failed), (.starting, .failed), (.ready, .failed), (.paused, .failed): true
        case (.reserved, .stopping), (.starting, .stopping), (.ready, .stopping), (.paused, .stopping), (.failed, .stopping): true
        case (.stopping, .stopping), (.stopping, .stopped): true
        case (.stopped, .removed), (.failed, .removed): true
        default: false
        }
    }
}

/// A sandbox's life as pure transitions.
struct SandboxStateMachine: Sendable {
    enum Event: Sendable {
        case attached(SandboxNetwork)
        case phase(String)
        case started
        case paused
        case resumed
        case failed(step: String)
        case stopRequested
        case released
        case removeRequested
    }

    enum Action: Equatable, Sendable {
        case nothing
        /// Release what the ledger lists, then report `released`.
        case release
        /// Forget the record.
        case forget
    }

    private(set) var state: SandboxState

    init(state: SandboxState = .reserved) {
        self.state = state
    }

    /// - Throws: `.failedPrecondition` when the event does not fit the state.
    mutating func handle(_ event: Event) throws -> Action {
        let (next, action) = try transition(event)
        if next != state, !state.allows(next) {
            throw SwiftletError(.internal, "sandbox may not go from \(state.name) to \(next.name)")
        }
        state = next
        return action
    }

    private func transition(_ event: Event) throws -> (SandboxState, Action) {
        switch (event, state) {
        case (.attached(let network), .reserved): (.starting(network, phase: "attached"), .nothing)
        case (.attached(let network), .starting(nil, let phase)): (.starting(network, phase: phase), .nothing)
        case (.phase(let phase), .reserved): (.starting(nil, phase: phase), .nothing)
        case (.phase(let phase), .starting(let network, _)): (.starting(network, phase: phase), .nothing)
        case (.started, .starting(let network?, _)): (.ready(network), .nothing)
        case (.paused, .ready(let network)): (.paused(network), .nothing)
        case (.resumed, .paused(let network)): (.ready(network), .nothing)
        case (.failed(let step), .reserved), (.failed(let step), .starting), (.failed(let step), .ready), (.failed(let step), .paused):
            (.failed(step: step), .release)
        case (.failed, .failed): (state, .release)
        case (.failed, .stopping), (.failed, .stopped): (state, .nothing)
        case (.stopRequested, .stopped), (.stopRequested, .removed): (state, .nothing)
        case (.stopRequested, .reserved), (.stopRequested, .starting), (.stopRequested, .ready), (.stopRequested, .paused),
            (.stopRequested, .stopping), (.stopRequested, .failed):
            (.stopping(state.network), .release)
        case (.released, .stopping): (.stopped, .nothing)
        case (.released, .stopped), (.released, .failed), (.released, .removed): (state, .nothing)
        case (.removeRequested, .stopped), (.removeRequested, .failed): (.removed, .forget)
        default:
            throw SwiftletError(.failedPrecondition, "sandbox is \(state.name)")
        }
    }
}
