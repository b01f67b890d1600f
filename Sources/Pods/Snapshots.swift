import Errors
import Synchronization

/// A sandbox as lists and statuses show it.
public struct SandboxSnapshot: Sendable, Equatable {
    public var id: String
    public var spec: SandboxSpec
    public var state: SandboxState
    /// Unix time in nanoseconds.
    public var createdAt: Int64
    public var details: [String: String] = [:]
    /// Resources that still wait for release.
    public var pendingReleases: [String] = []

    public var isReady: Bool {
        if case .ready = state { true } else { false }
    }

    /// Pod addresses without prefix length, the primary first.
    public var addresses: [String] {
        (state.network?.addresses ?? []).map { String($0.prefix { $0 != "/" }) }
    }
}

/// A container as lists and statuses show it.
public struct ContainerSnapshot: Sendable, Equatable {
    public var id: String
    public var sandboxID: String
    public var spec: ContainerSpec
    /// The image's id, "sha256:...".
    public var imageID: String
    public var state: ContainerState
    /// Unix time in nanoseconds.
    public var createdAt: Int64
    /// Absolute; empty without a log.
    public var logPath: String
    public var stopSignal: Int32
}

/// The latest snapshot of everything. Lists read it and never wait for a pod.
final class Snapshots: Sendable {
    private struct Tables {
        var sandboxes: [String: Listed<SandboxSnapshot>] = [:]
        var containers: [String: Listed<ContainerSnapshot>] = [:]
    }

    private let tables = Mutex(Tables())

    func publish(_ sandbox: SandboxSnapshot) {
        tables.withLock { $0.sandboxes[sandbox.id] = Listed(sandbox) }
    }

    func publish(_ container: ContainerSnapshot) {
        tables.withLock { $0.containers[container.id] = Listed(container) }
    }

    func withdraw(sandbox id: String) {
        tables.withLock { _ = $0.sandboxes.removeValue(forKey: id) }
    }

    func withdraw(container id: String) {
        tables.withLock { _ = $0.containers.removeValue(forKey: id) }
    }

    func sandboxes() -> [Listed<SandboxSnapshot>] {
        tables.withLock { Array($0.sandboxes.values) }
    }

    func containers() -> [Listed<ContainerSnapshot>] {
        tables.withLock { Array($0.containers.values) }
    }

    /// The sandbox of that id or unique beginning of an id.
    func sandbox(_ id: String) throws -> SandboxSnapshot? {
        try tables.withLock { try Self.find(id, in: $0.sandboxes, "pod sandbox")?.snapshot }
    }

    /// The container of that id or unique beginning of an id.
    func container(_ id: String) throws -> ContainerSnapshot? {
        try tables.withLock { try Self.find(id, in: $0.containers, "container")?.snapshot }
    }

    private static func find<Value>(_ id: String, in table: [String: Value], _ what: String) throws -> Value? {
        if let exact = table[id] { return exact }
        guard id.count < Identifier.length else { return nil }
        let matches = table.keys.filter { $0.hasPrefix(id) }
        guard matches.count <= 1 else {
            throw SwiftletError(.invalidArgument, "\(what) id \(id) is ambiguous: \(matches.count) ids begin with it")
        }
        return matches.first.flatMap { table[$0] }
    }
}
