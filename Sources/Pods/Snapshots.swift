import Errors
import Linux
import Logging
import Runtime
import Synchronization

/// A sandbox as lists and statuses show it.
public struct SandboxSnapshot: Sendable, Equatable {
    public var id: String
    public var spec: SandboxSpec
    public var state: SandboxState
    /// Unix time in nanoseconds.
    public var createdAt: Int64
    public var details: [String: JSONValue] = [:]
    /// What keeps it from running although it is up.
    public var halt: SandboxHalt?
    /// Resources that still wait for release.
    public var pendingReleases: [String] = []

    public var isReady: Bool {
        if case .ready = state { true } else { false }
    }

    /// Pod addresses without prefix length, the primary first.
    public var addresses: [String] {
        (state.network?.attached?.addresses ?? []).map { String($0.prefix { $0 != "/" }) }
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
    /// Nil until the guest has made the container.
    public var user: ContainerUser?
}

/// The latest snapshot of everything. Lists read it and never wait for a pod.
///
/// Events are sent from here, so that each follows what lists show and none overtakes another.
final class Snapshots: Sendable {
    private struct Tables {
        var sandboxes: [String: ListEntry<SandboxSnapshot>] = [:]
        var containers: [String: ListEntry<ContainerSnapshot>] = [:]
        /// The last event sent for each sandbox and container.
        var announced: [String: PodEvent.Kind] = [:]
    }

    let events = PodEvents()
    private let log: LifeLog
    private let tables = Mutex(Tables())

    init(logger: Logger) { log = LifeLog(logger: logger) }

    func publish(_ sandbox: SandboxSnapshot) {
        let last = tables.withLock { tables in
            let last = tables.sandboxes.updateValue(ListEntry(sandbox), forKey: sandbox.id)
            announce(sandbox.lastEvent, of: sandbox.id, in: sandbox.id, &tables)
            return last
        }
        log.changed(sandbox, from: last?.snapshot)
    }

    func publish(_ container: ContainerSnapshot) {
        let last = tables.withLock { tables in
            let last = tables.containers.updateValue(ListEntry(container), forKey: container.id)
            announce(container.lastEvent, of: container.id, in: container.sandboxID, &tables)
            return last
        }
        log.changed(container, from: last?.snapshot)
    }

    func withdraw(sandbox id: String) {
        let last = tables.withLock { tables in
            let last = tables.sandboxes.removeValue(forKey: id)
            guard let last else { return last }
            tables.announced[id] = nil
            send(.deleted, of: id, last.snapshot, tables)
            return last
        }
        if let last { log.removed(last.snapshot) }
    }

    func withdraw(container id: String) {
        let last = tables.withLock { tables in
            let last = tables.containers.removeValue(forKey: id)
            guard let last else { return last }
            tables.announced[id] = nil
            send(.deleted, of: id, tables.sandboxes[last.snapshot.sandboxID]?.snapshot, tables)
            return last
        }
        if let last { log.removed(last.snapshot) }
    }

    /// Sends what is news. What an earlier daemon has left is none.
    private func announce(_ kind: PodEvent.Kind?, of id: String, in sandboxID: String, _ tables: inout Tables) {
        guard let kind, tables.announced[id] != kind else { return }
        let isNews = kind == .created || tables.announced[id] != nil
        tables.announced[id] = kind
        if isNews { send(kind, of: id, tables.sandboxes[sandboxID]?.snapshot, tables) }
    }

    private func send(_ kind: PodEvent.Kind, of id: String, _ sandbox: SandboxSnapshot?, _ tables: Tables) {
        guard events.watchers > 0 else { return }
        let containers = Self.containers(of: sandbox?.id ?? "", tables)
        events.send(PodEvent(id: id, kind: kind, time: WallClock.now(), sandbox: sandbox, containers: containers))
    }

    /// The oldest first.
    private static func containers(of sandboxID: String, _ tables: Tables) -> [ListEntry<ContainerSnapshot>] {
        tables.containers.values.filter { $0.snapshot.sandboxID == sandboxID }.sorted { $0.snapshot.createdAt < $1.snapshot.createdAt }
    }

    func pod(_ id: String) -> (sandbox: SandboxSnapshot, containers: [ListEntry<ContainerSnapshot>])? {
        tables.withLock { tables in
            tables.sandboxes[id].map { ($0.snapshot, Self.containers(of: id, tables)) }
        }
    }

    func sandboxes() -> [ListEntry<SandboxSnapshot>] {
        tables.withLock { Array($0.sandboxes.values) }
    }

    func containers() -> [ListEntry<ContainerSnapshot>] {
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
