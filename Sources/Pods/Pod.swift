import Errors
import Images
import Logging
import Network
import State

/// One pod sandbox with its containers: the only place where their states change.
actor Pod {
    nonisolated let id: String
    nonisolated let spec: SandboxSpec
    let context: PodContext
    let ledger: Ledger
    var machine: (any SandboxMachine)?
    var containers: [String: Container] = [:]

    private let handler: any RuntimeHandler
    private let createdAt: Int64
    private var lifecycle: SandboxStateMachine
    private var pending: [PendingRelease] = []
    private var startAttempt: Task<any SandboxMachine, any Error>?
    private var stopAttempt: Task<Void, any Error>?
    private var machineWatch: Task<Void, Never>?

    init(id: String, spec: SandboxSpec, createdAt: Int64, state: SandboxState, handler: any RuntimeHandler, context: PodContext) {
        self.id = id
        self.spec = spec
        self.createdAt = createdAt
        self.handler = handler
        self.context = context
        lifecycle = SandboxStateMachine(state: state)
        ledger = Ledger(owner: id, database: context.store.database)
    }

    var state: SandboxState { lifecycle.state }
    var logger: Logger { context.logger }

    // MARK: Start

    /// Brings the sandbox up, or leaves nothing behind but what could not be released.
    func start() async throws {
        try await persist()
        do {
            let (id, spec, handler, ledger) = (id, spec, handler, ledger)
            let attempt = Task {
                try await withDeadline(context.deadlines.sandboxStart, "start pod sandbox \(id)") {
                    try await handler.start(id, spec, ledger: ledger) { try await self.advance($0) }
                }
            }
            startAttempt = attempt
            defer { startAttempt = nil }
            let started = try await attempt.value
            try await enter(.agentReady)
            adopt(started)
        } catch {
            try await abandonStart(error)
        }
    }

    /// Takes over a machine that outlived an earlier daemon.
    func reattach() async throws {
        guard let network = state.network else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(id) is \(state.name)")
        }
        let (id, spec, handler, ledger) = (id, spec, handler, ledger)
        let found = try await withDeadline(context.deadlines.guestAnswer, "reattach pod sandbox \(id)") {
            try await handler.reattach(id, spec, network: network, ledger: ledger)
        }
        adopt(found)
        await resumeContainers()
        publish()
    }

    private func adopt(_ found: any SandboxMachine) {
        machine = found
        publish()
        machineWatch = Task { [weak self] in
            let reason = await found.lost()
            if !Task.isCancelled { await self?.machineWasLost(reason) }
        }
    }

    private func advance(_ progress: SandboxProgress) async throws {
        switch progress {
        case .networked(let network): try await enter(.attached(network))
        case .booting: try await enter(.machineRequested)
        }
    }

    private func abandonStart(_ error: any Error) async throws {
        let failure = SwiftletError.wrap(error, "pod sandbox \(spec.metadata.namespace)/\(spec.metadata.name)")
        if case .stopping = state { throw SwiftletError(.aborted, "\(failure.message): stopped while starting") }
        if case .stopped = state { throw SwiftletError(.aborted, "\(failure.message): stopped while starting") }
        logger.error("start failed", metadata: ["pod": "\(id)", "error": "\(failure)"])
        await fail(step: failure.message)
        throw failure
    }

    // MARK: Stop

    /// Ends the containers and releases everything. Idempotent; joins a stop in flight.
    ///
    /// - Throws: `.internal` naming what could not be released; it stays in the ledger and is retried.
    func stop() async throws {
        if let stopAttempt { return try await stopAttempt.value }
        let attempt = Task { try await performStop() }
        stopAttempt = attempt
        defer { stopAttempt = nil }
        try await attempt.value
    }

    private func performStop() async throws {
        guard try lifecycle.handle(.stopRequested) == .release else { return }
        try await persist()
        if let startAttempt {
            startAttempt.cancel()
            _ = try? await withDeadline(context.deadlines.release, "end the start") { await startAttempt.result }
        }
        machineWatch?.cancel()
        await endContainers()
        await releaseResources()
        guard pending.isEmpty else {
            throw SwiftletError(.internal, "pod sandbox \(id) still holds \(pendingText())")
        }
        try await enter(.released)
    }

    /// Stops what still runs and forgets the record. Idempotent.
    func remove() async throws {
        switch state {
        case .stopped: break
        case .failed:
            await releaseResources()
            guard pending.isEmpty else {
                throw SwiftletError(.internal, "pod sandbox \(id) still holds \(pendingText())")
            }
        case .removed: return
        default: try await stop()
        }
        for container in containers.values { try await remove(container) }
        guard try lifecycle.handle(.removeRequested) == .forget else { return }
        try await context.store.deleteSandbox(id)
        context.snapshots.withdraw(sandbox: id)
    }

    // MARK: Failure

    private func machineWasLost(_ reason: String) async {
        guard case .ready = state else { return }
        logger.error("machine lost", metadata: ["pod": "\(id)", "reason": "\(reason)"])
        await fail(step: "machine lost: \(reason)")
    }

    /// The sandbox cannot go on: its containers have ended and what it holds is released.
    func fail(step: String) async {
        do {
            _ = try lifecycle.handle(.failed(step: step))
            try await persist()
        } catch {
            logger.error("state not saved", metadata: ["pod": "\(id)", "error": "\(error)"])
        }
        machine = nil
        for container in containers.values { await markLost(container, step) }
        await releaseResources()
    }

    /// Tries again what could not be released before.
    func retryPendingReleases() async {
        switch state {
        case .failed where !pending.isEmpty: await releaseResources()
        case .stopping where stopAttempt == nil: try? await stop()
        default: break
        }
    }

    private func releaseResources() async {
        machine = nil
        var left = await release(ledger)
        for container in containers.values { left += await release(container.ledger) }
        pending = left
        for item in left {
            logger.warning(
                "release failed, will be retried",
                metadata: ["pod": "\(id)", "kind": "\(item.entry.kind.rawValue)", "name": "\(item.entry.name)", "reason": "\(item.reason)"])
        }
        publish()
    }

    /// Whether nothing is left to release.
    var isClean: Bool { pending.isEmpty }

    /// Releases all that one ledger lists.
    func release(_ ledger: Ledger) async -> [PendingRelease] {
        let (handler, images) = (handler, context.images)
        return await ledger.releaseAll(within: context.deadlines.release) { entry in
            switch entry.kind {
            case .imageLease: try await images.releaseLeases(holder: entry.name)
            default: try await handler.release(entry)
            }
        }
    }

    private func pendingText() -> String {
        pending.map { "\($0.entry.kind.rawValue) \($0.entry.name) (\($0.reason))" }.joined(separator: ", ")
    }

    // MARK: State

    private func enter(_ event: SandboxStateMachine.Event) async throws {
        _ = try lifecycle.handle(event)
        try await persist()
    }

    private func persist() async throws {
        let current = snapshot()
        try await context.store.save(current)
        publish()
    }

    func publish() {
        guard state != .removed else { return }
        context.snapshots.publish(snapshot())
    }

    private func snapshot() -> SandboxSnapshot {
        SandboxSnapshot(
            id: id, spec: spec, state: state, createdAt: createdAt, details: machine?.details ?? [:],
            pendingReleases: pending.map { "\($0.entry.kind.rawValue) \($0.entry.name)" })
    }
}
