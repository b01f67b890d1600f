import Concurrency
import Errors
import Images
import Linux
import Logging
import Measures
import Runtime
import State

/// One pod sandbox with its containers: the only place where their states change.
actor Pod {
    nonisolated let id: String
    nonisolated let spec: SandboxSpec
    let context: PodContext
    let ledger: Ledger
    var machine: (any Sandbox)?
    /// What keeps the machine from running; nothing can be asked of the guest then.
    var halt: SandboxHalt?
    var containers: [String: Container] = [:]
    /// Looks for the machine of an earlier daemon.
    var reattachAttempt: Task<Void, Never>?

    let handler: any RuntimeHandler
    /// The pod's limits as a whole; those of `spec` until they are changed.
    var resources: PodResources
    /// What fits the machine to its pod.
    let fits = SerialQueue()
    /// Changes of the pod's limits as a whole.
    let updates = SerialQueue()
    /// Releases of what the pod and its containers hold: no resource is released twice at the same time.
    private let releases = SerialQueue()
    /// Writes of the sandbox's record: an older state never follows a newer one.
    private let saves = SerialQueue()
    let isUnreadable: Bool
    /// Held while what the pod's guest sends is worked on.
    nonisolated let mark: CrashMark
    private let createdAt: Int64
    private var lifecycle: SandboxStateMachine
    private var pending: [PendingRelease] = []
    private var isRetrying = false
    /// The handler's work on a start; it ends at its own pace, also after the start was given up.
    private var startWork: Task<any Sandbox, any Error>?
    /// Whether nobody waits for the start any more.
    private var isAbandoned = false
    private var stopAttempt: Task<Void, any Error>?
    private var removeAttempt: Task<Void, any Error>?
    private var machineWatch: Task<Void, Never>?
    private var haltWatch: Task<Void, Never>?

    /// - Parameters:
    ///   - resources: what an earlier daemon wrote down for the sandbox.
    ///   - unreadable: the record could not be read: the pod keeps what it holds, and its record, until it is stopped.
    init(
        id: String, spec: SandboxSpec, createdAt: Int64, state: SandboxState, handler: any RuntimeHandler, context: PodContext,
        holding resources: [LedgerEntry] = [], unreadable: Bool = false
    ) {
        isUnreadable = unreadable
        self.id = id
        self.spec = spec
        self.resources = PodResources(pod: spec.resources, overhead: spec.overhead)
        self.createdAt = createdAt
        self.handler = handler
        self.context = context
        mark = context.crashes?.mark(for: id) ?? CrashMark()
        lifecycle = SandboxStateMachine(state: state)
        ledger = Ledger(owner: id, database: context.store.database, entries: resources)
    }

    var state: SandboxState { lifecycle.state }
    var logger: Logger { context.logger }

    // MARK: Start

    /// Brings the sandbox up, or leaves nothing behind but what could not be released.
    func start() async throws {
        do {
            try await save()
            let work = Task { try await self.startWithNetwork() }
            startWork = work
            if isAbandoned { work.cancel() }
            let started = try await withDeadline(context.deadlines.sandboxStart, "start") { try await work.value }
            startWork = nil
            do {
                try await enter(.started)
            } catch {
                started.close()
                throw error
            }
            adopt(started)
        } catch {
            try await undoStart(error)
        }
    }

    func adopt(_ found: any Sandbox) {
        machine = found
        halt = nil
        publish()
        let halts = found.halts()
        haltWatch = Task { [weak self] in
            for await halt in halts { await self?.changed(halt) }
        }
        machineWatch = Task { [weak self] in
            let loss = await found.lost()
            if !Task.isCancelled { await self?.machineWasLost(loss) }
        }
    }

    func changed(_ halt: SandboxHalt?) {
        guard state.isUp, self.halt != halt else { return }
        self.halt = halt
        if let halt {
            logger.error("pod stopped", metadata: ["pod": "\(id)", "reason": "\(halt)"])
        } else {
            logger.notice("pod goes on", metadata: ["pod": "\(id)"])
        }
        publish()
    }

    /// Nobody waits for the start any more. One that has succeeded stays.
    func abandonStart() {
        isAbandoned = true
        startWork?.cancel()
    }

    private func undoStart(_ error: any Error) async throws {
        let failure = SwiftletError.wrap(error, "pod sandbox \(spec.metadata.namespace)/\(spec.metadata.name)")
        switch state {
        case .stopping, .stopped, .removed: throw SwiftletError(.aborted, "\(failure.message): stopped while starting")
        default: break
        }
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
        let steps = StepTimes(id, logger, of: "sandbox stop")
        await saveIfPossible()
        steps.passed("noted")
        machineWatch?.cancel()
        reattachAttempt?.cancel()
        await endContainers(steps)
        try requireClean(await releaseResources(steps))
        steps.passed("released")
        _ = try lifecycle.handle(.released)
        await saveIfPossible()
        steps.passed("saved")
    }

    /// Stops what still runs and forgets the record. Idempotent; joins a removal in flight.
    func remove() async throws {
        if let removeAttempt { return try await removeAttempt.value }
        let attempt = Task { try await performRemove() }
        removeAttempt = attempt
        defer { removeAttempt = nil }
        try await attempt.value
    }

    private func performRemove() async throws {
        if case .failed = state { try requireClean(await releaseResources()) }
        switch state {
        case .failed, .stopped, .removed: break
        default: try await stop()
        }
        // One that is being created is seen as soon as it has a record.
        while let container = containers.values.first { try await remove(container) }
        // A change of limits in flight would save the sandbox again; one that begins now is refused.
        await updates.drained()
        try await context.store.deleteSandbox(id)
        if state != .removed { _ = try lifecycle.handle(.removeRequested) }
        context.snapshots.withdraw(sandbox: id)
    }

    // MARK: Failure

    private func machineWasLost(_ loss: SandboxLoss) async {
        guard case .ready = state else { return }
        logger.error("machine lost", metadata: ["pod": "\(id)", "reason": "\(loss.reason)"])
        // In a task of its own: a stop cancels the watch that this is called from, and not the release that has begun.
        await Task { await fail(step: "machine lost: \(loss.reason)", outOfMemory: loss.outOfMemory) }.value
    }

    /// Whether the machine is gone; its watch may need a moment to see it.
    func isLost(within limit: Duration) async -> Bool {
        if case .ready = state, let watch = machineWatch {
            try? await withDeadline(limit, "see the machine's end") { await watch.value }
        }
        if case .ready = state { return false }
        return true
    }

    /// The sandbox cannot go on: its containers have ended and what it holds is released. A stop that is under way does the same and
    /// goes on.
    func fail(step: String, outOfMemory: Bool = false) async {
        do {
            guard try lifecycle.handle(.failed(step: step)) == .release else { return }
        } catch {
            return logger.error("unexpected failure", metadata: ["pod": "\(id)", "error": "\(error)"])
        }
        await saveIfPossible()
        let lost = machine
        machine = nil
        await drainLogs(within: .seconds(1))
        for container in containers.values { await markLost(container, step, outOfMemory: outOfMemory) }
        lost?.close()
        await releaseResources()
    }

    /// Tries again what could not be released before.
    func retryPendingReleases() async {
        guard !isRetrying else { return }
        isRetrying = true
        defer { isRetrying = false }
        switch state {
        case .failed where !pending.isEmpty && !isUnreadable: await releaseResources()
        case .stopping where stopAttempt == nil: try? await stop()
        default: break
        }
    }

    private func letGoOfMachine() {
        haltWatch?.cancel()
        halt = nil
        machine?.close()
        machine = nil
    }

    /// Releases all that the pod and its containers hold, after every release that was asked for before.
    ///
    /// - Returns: what is left.
    @discardableResult
    private func releaseResources(_ steps: StepTimes? = nil) async -> [PendingRelease] {
        letGoOfMachine()
        ledger.close()
        for container in containers.values { container.ledger.close() }
        return await releases.run { await self.releaseInTurn(steps) }
    }

    private func releaseInTurn(_ steps: StepTimes?) async -> [PendingRelease] {
        var left: [PendingRelease] = []
        if await startHasEnded() {
            let unfinished = await endCreations(of: Array(containers.values))
            let own = containers.values.map(\.ledger).filter { holdsOwnMachine($0) }
            for ledger in own { left += await release(ledger, unfinished: unfinished) }
            left += await release(ledger, after: left, unfinished: unfinished, steps)
            for container in containers.values { left += await release(container.ledger, unfinished: unfinished) }
        } else {
            left = ledger.entries.map { PendingRelease(entry: $0, reason: "the start has not ended yet") }
        }
        pending = left
        for item in left {
            logger.warning(
                "release failed, will be retried",
                metadata: ["pod": "\(id)", "kind": "\(item.entry.kind)", "name": "\(item.entry.name)", "reason": "\(item.reason)"])
        }
        publish()
        return left
    }

    /// Whether the container holds what is a sandbox's in other pods, as one does that is a machine itself: it ends before the pod's network
    /// is taken away.
    private func holdsOwnMachine(_ ledger: Ledger) -> Bool {
        ledger.entries.contains { context.releasers.scope(of: $0.kind) == .sandbox }
    }

    /// Ends the handler's work on a start, so that nothing is acquired behind its release.
    private func startHasEnded() async -> Bool {
        guard let work = startWork else { return true }
        work.cancel()
        do {
            try await withDeadline(context.deadlines.release, "end the start") { _ = await work.result }
            startWork = nil
            return true
        } catch {
            return ledger.entries.isEmpty
        }
    }

    /// Ends the creations of containers, so that nothing is acquired behind the release.
    ///
    /// - Returns: what goes on in spite of that, such as a look at a mount's source on a network filesystem that hangs.
    private func endCreations(of containers: [Container]) async -> String? {
        let creations = containers.compactMap(\.acquisition)
        for creation in creations { creation.cancel() }
        do {
            try await withDeadline(context.deadlines.release, "end the creation of containers") {
                for creation in creations { _ = await creation.result }
            }
            return nil
        } catch {
            return "the creation of a container has not ended yet"
        }
    }

    /// Releases all that a container holds, after every release of the pod that was asked for before.
    func release(_ container: Container) async -> [PendingRelease] {
        container.ledger.close()
        let id = container.id
        return await releases.run { await self.releaseContainerInTurn(id) }
    }

    private func releaseContainerInTurn(_ id: String) async -> [PendingRelease] {
        guard let container = containers[id] else { return [] }
        return await release(container.ledger, unfinished: await endCreations(of: [container]))
    }

    /// Releases all that one ledger lists.
    ///
    /// - Parameter unfinished: the creation of a container that goes on: what it acquires stays listed, to be released again.
    private func release(
        _ ledger: Ledger, after earlier: [PendingRelease] = [], unfinished: String?, _ steps: StepTimes? = nil
    ) async -> [PendingRelease] {
        let (releasers, id) = (context.releasers, id)
        return await ledger.releaseAll(within: context.deadlines.release, by: releasers, after: earlier) { entry in
            steps?.passed("released \(entry.kind)")
            return entry.owner != id || releasers.scope(of: entry.kind) == .container ? unfinished : nil
        }
    }

    /// Whether nothing is left to release.
    var isClean: Bool { pending.isEmpty }

    private func requireClean(_ left: [PendingRelease]) throws {
        guard !left.isEmpty else { return }
        let list = left.map { "\($0.entry.kind) \($0.entry.name) (\($0.reason))" }.joined(separator: ", ")
        throw SwiftletError(.internal, "pod sandbox \(id) still holds \(list)")
    }

    // MARK: State

    func enter(_ event: SandboxStateMachine.Event) async throws {
        _ = try lifecycle.handle(event)
        try await save()
    }

    func save() async throws {
        let store = context.store
        try await saves.run { try await store.save(await self.snapshot()) }
        publish()
    }

    /// Saves where that must not stop what has to be done, such as on a full disk. A restart finds the older state and
    /// releases again.
    private func saveIfPossible() async {
        do {
            try await save()
        } catch {
            logger.error("state not saved", metadata: ["pod": "\(id)", "state": "\(state.name)", "error": "\(error)"])
            publish()
        }
    }

    func publish() {
        guard state != .removed else { return }
        context.snapshots.publish(snapshot())
    }

    private func snapshot() -> SandboxSnapshot {
        var spec = spec
        (spec.resources, spec.overhead) = (resources.pod, resources.overhead)
        return SandboxSnapshot(
            id: id, spec: spec, state: state, createdAt: createdAt, details: machine?.details ?? [:], halt: halt,
            pendingReleases: pending.map { "\($0.entry.kind) \($0.entry.name)" })
    }
}
