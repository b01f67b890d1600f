import Runtime

/// A change of a sandbox or a container, with its pod as lists showed it just after.
public struct PodEvent: Sendable {
    public enum Kind: Sendable, Equatable {
        case created
        case started
        case stopped
        case deleted
    }

    /// The container's id, or the sandbox's when the sandbox itself changed.
    public var id: String
    public var kind: Kind
    /// Unix time in nanoseconds.
    public var time: Int64
    /// The pod's sandbox; of a deleted one what was known last, because the client needs the pod's name and uid.
    public var sandbox: SandboxSnapshot?
    /// The pod's containers, a deleted one no more.
    public var containers: [ListEntry<ContainerSnapshot>]
}

extension SandboxSnapshot {
    /// What has happened to the sandbox last as far as events were sent; nil while it is being stopped.
    var lastEvent: PodEvent.Kind? {
        switch state {
        case .reserved, .starting: .created
        case .ready, .paused: .started
        case .failed, .stopped: .stopped
        case .stopping, .removed: nil
        }
    }
}

extension ContainerSnapshot {
    /// What has happened to the container last as far as events were sent.
    var lastEvent: PodEvent.Kind? {
        switch state {
        case .created: .created
        case .running: .started
        case .exited: .stopped
        case .removed: nil
        }
    }
}
