import Errors
import PodNetwork

/// Where a sandbox is in its life. `ready` alone is READY to the kubelet.
public enum SandboxState: Codable, Sendable, Equatable {
    case reserved
    case networked(AttachedNetwork)
    case booting(AttachedNetwork)
    case ready(AttachedNetwork)
    case stopping(AttachedNetwork?)
    case stopped
    /// The start failed or the machine was lost; resources may still wait for release.
    case failed(step: String)
    case removed

    /// The name that is stored and shown.
    public var name: String {
        switch self {
        case .reserved: "reserved"
        case .networked: "networked"
        case .booting: "booting"
        case .ready: "ready"
        case .stopping: "stopping"
        case .stopped: "stopped"
        case .failed: "failed"
        case .removed: "removed"
        }
    }

    /// The attachment that the state carries.
    public var network: AttachedNetwork? {
        switch self {
        case .networked(let network), .booting(let network), .ready(let network): network
        case .stopping(let network): network
        case .reserved, .stopped, .failed, .removed: nil
        }
    }

    /// The transitions that may be persisted, whatever the machine below thinks.
    func allows(_ next: SandboxState) -> Bool {
        switch (self, next) {
        case (.reserved, .networked), (.networked, .booting), (.booting, .ready): true
        case (.reserved, .failed), (.networked, .failed), (.booting, .failed), (.ready, .failed): true
        case (.reserved, .stopping), (.networked, .stopping), (.booting, .stopping), (.ready, .stopping), (.failed, .stopping): true
        case (.stopping, .stopping), (.stopping, .stopped): true
        case (.stopped, .removed), (.failed, .removed): true
        default: false
        }
    }
}

/// A sandbox's life as pure transitions.
struct SandboxStateMachine: Sendable {
    enum Event: Sendable {
        case attached(AttachedNetwork)
        case machineRequested
        case agentReady
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
        case (.attached(let network), .reserved): (.networked(network), .nothing)
        case (.machineRequested, .networked(let network)): (.booting(network), .nothing)
        case (.agentReady, .booting(let network)): (.ready(network), .nothing)
        case (.failed(let step), .reserved), (.failed(let step), .networked), (.failed(let step), .booting), (.failed(let step), .ready):
            (.failed(step: step), .release)
        case (.failed, .failed): (state, .release)
        case (.failed, .stopping), (.failed, .stopped): (state, .nothing)
        case (.stopRequested, .stopped), (.stopRequested, .removed): (state, .nothing)
        case (.stopRequested, .reserved), (.stopRequested, .networked), (.stopRequested, .booting), (.stopRequested, .ready),
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
