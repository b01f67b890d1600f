import Errors
import Images
import Linux
import Logging
import Runtime
import State
import Synchronization

/// All pods of the node: the one way in for the doors.
///
/// Lists and statuses come from memory and wait for no pod.
public final class PodRegistry: Sendable {
    let context: PodContext
    let handlers: [String: any RuntimeHandler]
    let defaultHandler: String
    /// The handler that pods of the default one get which ask for the node's namespaces; nil: they are refused.
    private let nodeHandler: String?
    let pods = Mutex<[String: Pod]>([:])
    private let sandboxCreations: Creations
    private let containerCreations: Creations
    let collector = Mutex<Task<Void, Never>?>(nil)
    let recoveryWork = Mutex<Task<Void, Never>?>(nil)
    /// Of what pods have, after they were found again.
    let reviews = Mutex<Task<Void, Never>?>(nil)
    /// What owners hold that nobody knows any more.
    let orphans: Orphans

    /// - Parameters:
    ///   - handlers: the first is the default.
    ///   - releasers: of all kinds of resources that any handler has ever acquired; the network's are known.
    ///   - output: writes the containers' logs.
    ///   - logBudget: of each log; pods may lower it.
    ///   - logRotation: of each log; nil: somebody else rotates it.
    ///   - sessions: makes the URLs of exec and port-forward; nil: there are none.
    ///   - nodeHandler: the name of the handler for pods of the default one that ask for the node's namespaces; nil: they are refused.
    ///   - crashes: says how the daemon before crashed; nil: nobody notes it.
    public init(
        handlers: [any RuntimeHandler], network: any NodeNetwork, releasers: [ResourceReleaser], images: ImageStore,
        database: StateDatabase, output: any ContainerOutput, logBudget: LogBudget = LogBudget(),
        logRotation: LogRotation? = nil, sessions: (any ContainerSessions)? = nil, nodeHandler: String? = nil,
        crashes: CrashRecord? = nil, deadlines: PodDeadlines = PodDeadlines(), logger: Logger
    ) {
        self.handlers = Dictionary(handlers.map { ($0.name, $0) }) { first, _ in first }
        defaultHandler = handlers.first?.name ?? ""
        self.nodeHandler = nodeHandler
        let leases = ResourceReleaser(.imageLease, scope: .container) { entry in try await images.releaseLeases(holder: entry.name) }
        context = PodContext(
            network: network, images: images, store: PodStore(database: database), snapshots: Snapshots(logger: logger),
            statistics: Statistics(patience: deadlines.statistics, logger: logger),
            settings: NodeSettings(database: database), output: output, logBudget: logBudget, logRotation: logRotation, sessions: sessions,
            crashes: crashes,
            releasers: Releasers(releasers + network.releasers + [leases]), deadlines: deadlines, logger: logger)
        sandboxCreations = Creations(grace: deadlines.abandonedCreation, cancels: true, logger: logger)
        // The guest is asked for a container within seconds.
        containerCreations = Creations(grace: deadlines.abandonedCreation, cancels: false, logger: logger)
        orphans = Orphans(releasers: context.releasers, within: deadlines.release, logger: logger)
    }

    // MARK: Sandboxes

    /// Starts a pod sandbox.
    ///
    /// - Returns: its id. A retry of a request in flight gets the id of the first attempt.
    /// - Throws: `.invalidArgument` for an unknown handler, `.alreadyExists` for a duplicate, or what failed by step;
    ///   nothing is left behind then.
    public func runSandbox(_ request: SandboxSpec) async throws -> String {
        let spec = withHandler(request)
        let handler = try handler(named: spec.runtimeHandler)
        do {
            try handler.capabilities.check(spec, handler: handler.name)
        } catch {
            if spec.needsNode {
                context.logger.notice(
                    "pod that needs the node refused", metadata: audit(spec, ["handler": "\(handler.name)", "error": "\(error)"]))
            }
            throw error
        }
        _ = try PodLogBudget.budget(spec.annotations, configured: context.logBudget)
        let metadata = spec.metadata
        let key = [metadata.namespace, metadata.name, metadata.uid, String(metadata.attempt)].joined(separator: "\u{0}")
        let what = "pod sandbox \(metadata.namespace)/\(metadata.name) (uid \(metadata.uid), attempt \(metadata.attempt))"
        let snapshots = context.snapshots
        let request = Creations.Request(key: key, what: what) {
            Self.holder(of: metadata, in: snapshots)
        } undo: { [weak self] id in
            guard let self, let pod = pods.withLock({ $0[id] }) else { return }
            // What cannot be released is retried as for any pod.
            try? await forget(pod)
        }
        return try await sandboxCreations.run(request) {
            let pod = Pod(
                id: Identifier.make(), spec: spec, createdAt: WallClock.now(), state: .reserved, handler: handler, context: self.context)
            self.pods.withLock { $0[pod.id] = pod }
            // Not cancelled itself: it writes down and releases what it has begun.
            let start = Task {
                do {
                    try await pod.start()
                } catch {
                    if await pod.isClean { try? await self.forget(pod) }
                    throw error
                }
            }
            try await withTaskCancellationHandler {
                try await start.value
            } onCancel: {
                Task { await pod.abandonStart() }
            }
            return pod.id
        }
    }

    /// The request with the handler that it goes to, where that is not the one it names.
    private func withHandler(_ request: SandboxSpec) -> SandboxSpec {
        guard request.runtimeHandler.isEmpty, request.needsNode, let nodeHandler, nodeHandler != defaultHandler else { return request }
        var spec = request
        spec.runtimeHandler = nodeHandler
        context.logger.notice("pod that needs the node taken by another handler", metadata: audit(spec, ["handler": "\(nodeHandler)"]))
        return spec
    }

    private func audit(_ spec: SandboxSpec, _ more: Logger.Metadata) -> Logger.Metadata {
        let metadata: Logger.Metadata = [
            "namespace": "\(spec.metadata.namespace)", "pod": "\(spec.metadata.name)", "uid": "\(spec.metadata.uid)",
        ]
        return metadata.merging(more) { _, new in new }
    }

    /// Callers that wait for a sandbox to start.
    var waitingForSandboxes: Int { sandboxCreations.waiting }

    /// Ends a sandbox and releases what it holds. Succeeds for one that does not exist, whatever the id looks like: it may be another
    /// runtime's.
    public func stopSandbox(_ id: String) async throws {
        guard Identifier.isPossible(id), let pod = try pod(id) else { return }
        try await pod.stop()
    }

    /// Removes a sandbox with its containers. Succeeds for one that does not exist, as ``stopSandbox(_:)``.
    public func removeSandbox(_ id: String) async throws {
        guard Identifier.isPossible(id), let pod = try pod(id) else { return }
        try await forget(pod)
    }

    /// - Throws: `.notFound`.
    public func sandbox(_ id: String) throws -> SandboxSnapshot {
        try Identifier.check(id, of: "pod sandbox")
        guard let snapshot = try context.snapshots.sandbox(id) else { throw SwiftletError(.notFound, "pod sandbox \(id)") }
        sandboxCreations.claim(snapshot.id)
        return snapshot
    }

    /// All sandboxes, in no order.
    public func sandboxes() -> [ListEntry<SandboxSnapshot>] {
        context.snapshots.sandboxes()
    }

    private static func holder(of metadata: SandboxSpec.Metadata, in snapshots: Snapshots) -> String? {
        snapshots.sandboxes().first { $0.snapshot.spec.metadata == metadata }?.snapshot.id
    }

    func forget(_ pod: Pod) async throws {
        try await pod.remove()
        pods.withLock { _ = $0.removeValue(forKey: pod.id) }
    }

    // MARK: Containers

    /// Makes a container in a ready sandbox.
    public func createContainer(in sandboxID: String, _ spec: ContainerSpec) async throws -> String {
        guard let pod = try pod(sandboxID) else { throw SwiftletError(.notFound, "pod sandbox \(sandboxID)") }
        let key = [pod.id, spec.metadata.name, String(spec.metadata.attempt)].joined(separator: "\u{0}")
        let what = "container \(spec.metadata.name) (attempt \(spec.metadata.attempt)) of pod sandbox \(pod.id)"
        let snapshots = context.snapshots
        let request = Creations.Request(key: key, what: what) {
            snapshots.containers().first { $0.snapshot.sandboxID == pod.id && $0.snapshot.spec.metadata == spec.metadata }?.snapshot.id
        } undo: { id in
            try? await pod.removeContainer(id)
        }
        return try await containerCreations.run(request) { try await pod.createContainer(spec) }
    }

    /// Callers that wait for a container to be made.
    var waitingForContainers: Int { containerCreations.waiting }

    public func startContainer(_ id: String) async throws {
        let (pod, id) = try podOfContainer(id)
        try await pod.startContainer(id)
    }

    /// Ends a container. Succeeds for one that does not exist, as ``stopSandbox(_:)``.
    public func stopContainer(_ id: String, timeout: Duration) async throws {
        guard Identifier.isPossible(id), try context.snapshots.container(id) != nil else { return }
        let (pod, id) = try podOfContainer(id)
        try await pod.stopContainer(id, timeout: timeout)
    }

    /// Removes a container, ending it first. Succeeds for one that does not exist, as ``stopSandbox(_:)``.
    public func removeContainer(_ id: String) async throws {
        guard Identifier.isPossible(id), try context.snapshots.container(id) != nil else { return }
        let (pod, id) = try podOfContainer(id)
        try await pod.removeContainer(id)
    }

    /// - Throws: `.notFound`.
    public func container(_ id: String) throws -> ContainerSnapshot {
        try Identifier.check(id, of: "container")
        guard let snapshot = try context.snapshots.container(id) else { throw SwiftletError(.notFound, "container \(id)") }
        containerCreations.claim(snapshot.id)
        return snapshot
    }

    /// All containers, in no order.
    public func containers() -> [ListEntry<ContainerSnapshot>] {
        context.snapshots.containers()
    }

    /// Runs a command in a container and collects its output.
    ///
    /// - Parameter timeout: nil for none; the process is killed when it passes.
    public func execute(_ id: String, _ command: [String], timeout: Duration?) async throws -> ExecResult {
        guard !command.isEmpty else { throw SwiftletError(.invalidArgument, "exec: the command is missing") }
        let (pod, id) = try podOfContainer(id)
        return try await pod.execute(id, command, timeout: timeout, output: outputs.allowance(for: pod.id))
    }

    /// ExecSync returns so much of stdout and stderr together; the rest is read and dropped (CVE-2022-1708). The kubelet takes
    /// messages of 16 MiB; 1 KiB of it is left for the rest of the reply.
    let outputs = OutputBudget(.init(call: 16 * 1024 * 1024 - 1024))
    /// Of sessions, whose clients may take their time, not to be in the way of ExecSync.
    let sessionOutputs = OutputBudget(.init(call: 16 * 1024 * 1024 - 1024))

    // MARK: The node

    /// What keeps the runtime from starting pods; nil when nothing does.
    public func runtimeObstacle() async -> String? {
        await handlers[defaultHandler]?.obstacle()
    }

    /// What keeps pods from getting a network; nil when nothing does.
    public func networkObstacle() async -> String? {
        await context.network.obstacle()
    }

    /// Which pods are stopped although they are ready, and why; nil when none is.
    public var halted: String? {
        let halted = sandboxes().map(\.snapshot).filter { $0.halt != nil }.sorted { $0.id < $1.id }
        guard let first = halted.first, let halt = first.halt else { return nil }
        let name = "\(first.spec.metadata.namespace)/\(first.spec.metadata.name)"
        let others = halted.count > 1 ? " and \(halted.count - 1) more" : ""
        return "pod sandbox \(name)\(others) cannot run: \(halt)"
    }

    /// What keeps the state from taking in anything new; nil when nothing does. Pods can be stopped and removed all the same.
    public var stateObstacle: String? { context.store.database.shortage }

    /// The names that a RuntimeClass may use, the default first.
    public var handlerNames: [String] {
        [defaultHandler] + handlers.keys.filter { $0 != defaultHandler }.sorted()
    }

    /// - Parameter name: of a handler; empty for the default one.
    public func capabilities(ofHandler name: String) -> HandlerCapabilities {
        handlers[name.isEmpty ? defaultHandler : name]?.capabilities ?? HandlerCapabilities()
    }

    // MARK: Lookup

    private func handler(named name: String) throws -> any RuntimeHandler {
        guard let handler = handlers[name.isEmpty ? defaultHandler : name] else {
            throw SwiftletError(
                .invalidArgument,
                "runtime handler \(quoted(name)) is unknown; this node has \(handlerNames.joined(separator: ", "))")
        }
        return handler
    }

    func pod(_ id: String) throws -> Pod? {
        try Identifier.check(id, of: "pod sandbox")
        guard let snapshot = try context.snapshots.sandbox(id) else { return nil }
        sandboxCreations.claim(snapshot.id)
        return pods.withLock { $0[snapshot.id] }
    }

    func podOfContainer(_ id: String) throws -> (Pod, String) {
        let snapshot = try container(id)
        guard let pod = pods.withLock({ $0[snapshot.sandboxID] }) else { throw SwiftletError(.notFound, "container \(id)") }
        return (pod, snapshot.id)
    }

}
