import Concurrency
import Errors
import Images
import Linux
import Logging
import Measures
import Runtime
import State

extension Pod {
    // MARK: Create

    /// Makes a container in the running machine.
    func createContainer(_ request: ContainerSpec) async throws -> String {
        let machine = try await readyMachine()
        let id = Identifier.make()
        let steps = StepTimes(id, logger, of: "container create")
        try handler.capabilities.check(request, handler: handler.name)
        var spec = request
        guard let image = try await context.images.status(spec.image) else {
            throw SwiftletError(.notFound, "container \(spec.metadata.name): image \(spec.image) is not on this node; pull it first")
        }
        spec.imageTag = image.repoTags.first ?? spec.image
        spec.imageDigest = image.digest(named: spec.image)
        let rootfs = try await context.images.rootfs(of: image.id)
        try handler.capabilities.check(rootfs.content, image: spec.image, handler: handler.name)
        let hostname = self.spec.networkMode == .node ? NodeName.current : self.spec.effectiveHostname
        var plan = try ContainerPlan(spec, rootfs: rootfs, hostname: hostname)
        let volumes = try await volumeImages(of: spec)
        for (index, volume) in volumes {
            spec.mounts[index].imageReference = volume.image.digest(named: spec.mounts[index].image) ?? volume.image.id
        }
        plan.volumeImages = volumes.mapValues(\.layers)
        try checkNamespaces(spec)
        plan.seccomp = try await seccomp(of: spec)
        steps.passed("planned")
        let snapshot = ContainerSnapshot(
            id: id, sandboxID: self.id, spec: spec, imageID: image.id, state: .created,
            createdAt: WallClock.now(), logPath: logPath(of: spec), stopSignal: plan.stopSignal)
        let ledger = Ledger(owner: id, database: context.store.database)
        let container = Container(snapshot, ledger: ledger)
        let created = plan
        // It may have been stopped since; a removal from now on sees the container.
        _ = try await readyMachine()
        containers[id] = container
        do {
            try await save(container)
            steps.passed("noted")
            try await openLog(of: container)
            steps.passed("log open")
            let images = context.images
            let leased = [image.id] + volumes.values.map(\.image.id)
            try await acquisition(for: container) {
                try await ledger.acquire(.imageLease, id) {
                    for image in leased { try await images.lease(imageID: image, holder: id) }
                }
            }.value
            steps.passed("image leased")
            try await fit(machine)
            steps.passed("machine fitted")
            let creation = acquisition(for: container) { try await machine.createContainer(id, created, ledger: ledger) }
            container.user = try await withDeadline(context.deadlines.guestAnswer, "create container \(spec.metadata.name)") {
                try await creation.value
            }
            steps.passed("made")
            try await save(container)
            steps.passed("saved")
            _ = try await readyMachine()
        } catch {
            await discard(container)
            throw SwiftletError.wrap(error, "pod sandbox \(self.id): container \(spec.metadata.name)")
        }
        context.snapshots.publish(container.snapshot)
        return id
    }

    /// The images that the container mounts beside its own, by the mount's index.
    private func volumeImages(of spec: ContainerSpec) async throws -> [Int: ImageRootfs] {
        var images: [Int: ImageRootfs] = [:]
        for (index, mount) in spec.mounts.enumerated() where !mount.image.isEmpty {
            guard let image = try await context.images.status(mount.image) else {
                throw SwiftletError(
                    .notFound, "config.mounts \(mount.containerPath): image \(mount.image) is not on this node; pull it first")
            }
            let rootfs = try await context.images.rootfs(of: image.id)
            guard case .layers = rootfs.content else {
                throw SwiftletError(
                    .invalidArgument,
                    "config.mounts \(mount.containerPath): image \(mount.image) is a disk image; files of a container image can be mounted")
            }
            images[index] = rootfs
        }
        return images
    }

    /// Begins work that acquires something for the container. What it holds is not released before that work has ended.
    private func acquisition<Value: Sendable>(
        for container: Container, _ work: @escaping @Sendable () async throws -> Value
    ) -> Task<Value, any Error> {
        let task = Task { try await work() }
        container.acquisition = Task {
            await withTaskCancellationHandler {
                _ = await task.result
            } onCancel: {
                task.cancel()
            }
        }
        return task
    }

    /// Undoes a creation that failed, or that an earlier daemon did not finish.
    func discard(_ container: Container) async {
        container.ledger.close()
        container.acquisition?.cancel()
        let id = container.id
        await context.output.close(id)
        if let machine {
            try? await withDeadline(context.deadlines.guestAnswer, "undo") { try await machine.deleteContainer(id) }
        }
        let left = await release(container)
        guard left.isEmpty else {
            await record(
                container, exit: ContainerExit(code: 128, finishedAt: WallClock.now(), reason: "CreateError", message: left[0].reason))
            return
        }
        await context.output.remove(id)
        containers[id] = nil
        try? await deleteRecord(of: container)
        context.snapshots.withdraw(container: id)
    }

    // MARK: Start

    /// Runs the container's first process. Joins a start in flight.
    ///
    /// - Throws: the guest's reason; the container is EXITED with ContainerCannotRun or StartError then.
    func startContainer(_ id: String) async throws {
        let machine = try await readyMachine()
        let container = try container(id)
        if let attempt = container.startAttempt { return try await attempt.value }
        guard case .created = container.state, container.removeAttempt == nil else {
            throw SwiftletError(.failedPrecondition, "container \(id) is \(container.state.name); only a created one can be started")
        }
        let attempt = Task { try await performStart(container, machine) }
        container.startAttempt = attempt
        defer { container.startAttempt = nil }
        try await attempt.value
    }

    private func performStart(_ container: Container, _ machine: any Sandbox) async throws {
        let id = container.id
        let ledger = container.ledger
        // A release waits for what the start takes on the node, as for a creation.
        let start = acquisition(for: container) { try await machine.startContainer(id, ledger: ledger) }
        do {
            try await withDeadline(context.deadlines.guestAnswer, "start container \(container.spec.metadata.name)") {
                try await start.value
            }
        } catch {
            let failure = SwiftletError.wrap(error, "container \(container.spec.metadata.name)")
            let reason = await reason(ofFailedStart: failure, of: id, machine)
            // A start that comes through after its deadline must not run: the guest forgets the container.
            try? await withDeadline(context.deadlines.kill, "undo") { try await machine.deleteContainer(id) }
            await record(
                container,
                exit: ContainerExit(code: 128, finishedAt: WallClock.now(), reason: reason, message: failure.description))
            await context.output.close(id)
            throw failure
        }
        try await started(container, machine)
    }

    /// Whether it is the container that can never run, as one without its command, or the start that went wrong.
    private func reason(ofFailedStart failure: SwiftletError, of id: String, _ machine: any Sandbox) async -> String {
        switch failure.code {
        case .invalidArgument: return "ContainerCannotRun"
        case .notFound:
            // It may be the container itself that the guest has lost; one whose start failed is there until it is deleted.
            let states = try? await withDeadline(context.deadlines.kill, "list containers") { try await machine.containerStates() }
            return states?[id] == nil ? "StartError" : "ContainerCannotRun"
        default: return "StartError"
        }
    }

    /// Notes that the first process runs, and waits for its output and its end from now on.
    func started(_ container: Container, _ machine: any Sandbox) async throws {
        _ = try container.lifecycle.handle(.started(at: WallClock.now()))
        if hasLogs { context.output.follow(container.id, from: machine.output(of: container.id)) } else { collectLog(of: container) }
        watchExit(container, machine)
        context.snapshots.publish(container.snapshot)
        // A container that is a machine brings what the sandbox tells of it.
        publish()
        try await save(container)
    }

    // MARK: Exit

    /// How long what waited for a budget may take to be written, 1 MiB at most.
    static let lateDrain = Duration.seconds(2)

    func watchExit(_ container: Container, _ machine: any Sandbox) {
        let (id, drain, output) = (container.id, context.deadlines.logDrain, context.output)
        container.exitWatch = Task { [weak self, logger] in
            guard let exit = await Self.exit(of: id, machine, logger) else { return }
            await self?.arrived(id, exit)
            do {
                try await withDeadline(drain, "drain the log") { await output.drained(id) }
            } catch {
                // What a low budget holds up would be lost with the container.
                await output.liftBudget(of: id)
                try? await withDeadline(Self.lateDrain, "drain the log") { await output.drained(id) }
            }
            await self?.recordArrived(id)
        }
    }

    /// The container's end, asked for again whatever fails but the machine, whose own watch ends the containers; nil when cancelled.
    private static func exit(of id: String, _ machine: any Sandbox, _ logger: Logger) async -> ContainerExit? {
        var pause = Duration.milliseconds(50)
        while !Task.isCancelled {
            do {
                return containerExit(try await machine.waitForExit(id))
            } catch let error as SwiftletError where error.code == .notFound {
                return ContainerExit(
                    code: 255, finishedAt: WallClock.now(), reason: "ContainerStatusUnknown",
                    message: "the guest does not know the container")
            } catch {
                guard !Task.isCancelled else { return nil }
                logger.warning("the wait for a container's end failed", metadata: ["container": "\(id)", "error": "\(error)"])
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(5))
            }
        }
        return nil
    }

    private static func containerExit(_ exit: ProcessExit) -> ContainerExit {
        let now = WallClock.now()
        // The guest's clock counts as far as it makes sense: an exit that waited for a restarted daemon is older than now.
        let finishedAt = exit.exitedAt > 0 && exit.exitedAt < now ? exit.exitedAt : now
        let reason = exit.outOfMemory ? "OOMKilled" : exit.code == 0 ? "Completed" : "Error"
        return ContainerExit(code: exit.code, finishedAt: finishedAt, reason: reason, message: exit.message)
    }

    private func arrived(_ id: String, _ exit: ContainerExit) {
        guard let container = containers[id] else { return }
        var exit = exit
        exit.finishedAt = max(exit.finishedAt, container.state.startedAt)
        container.arrivedExit = exit
    }

    private func recordArrived(_ id: String) async {
        guard let container = containers[id], let exit = container.arrivedExit else { return }
        await record(container, exit: exit)
    }

    func record(_ container: Container, exit: ContainerExit) async {
        guard (try? container.lifecycle.handle(.exited(exit))) == true else { return }
        context.snapshots.publish(container.snapshot)
        publish()
        do {
            try await save(container)
        } catch {
            logger.error("exit not saved", metadata: ["container": "\(container.id)", "error": "\(error)"])
        }
        let waiters = container.exitWaiters
        container.exitWaiters = []
        for waiter in waiters { waiter.resume() }
    }

    /// Records the end of a container whose machine is gone: as it was heard, or as a kill.
    func markLost(_ container: Container, _ message: String, outOfMemory: Bool = false) async {
        await context.output.close(container.id)
        container.exitWatch?.cancel()
        switch container.state {
        case .created, .running:
            let reason = outOfMemory ? "OOMKilled" : "Error"
            let lost = ContainerExit(code: 137, finishedAt: WallClock.now(), reason: reason, message: message)
            await record(container, exit: container.arrivedExit ?? lost)
        case .exited, .removed: break
        }
    }

    /// Waits for the containers' output to end, no longer than `limit`.
    func drainLogs(within limit: Duration) async {
        let (ids, output) = (Array(containers.keys), context.output)
        guard !ids.isEmpty else { return }
        try? await withDeadline(limit, "drain the logs") {
            for id in ids { await output.liftBudget(of: id) }
            for id in ids { await output.drained(id) }
        }
    }

    // MARK: Records

    /// Saves the container as it is when its turn comes; one that was removed meanwhile is not saved.
    func save(_ container: Container) async throws {
        let (id, store) = (container.id, context.store)
        try await container.saves.run {
            guard let snapshot = await self.snapshot(of: id) else { return }
            try await store.save(snapshot)
        }
    }

    func deleteRecord(of container: Container) async throws {
        let (id, store) = (container.id, context.store)
        try await container.saves.run { try await store.deleteContainer(id) }
    }

    private func snapshot(of id: String) -> ContainerSnapshot? {
        guard let container = containers[id], container.state != .removed else { return nil }
        return container.snapshot
    }

    // MARK: Lookup

    func container(_ id: String) throws -> Container {
        guard let container = containers[id] else { throw SwiftletError(.notFound, "container \(id)") }
        return container
    }

    /// The machine; right after a restart of the daemon, as soon as it is found again.
    ///
    /// - Throws: `.unavailable` while it does not run, with the reason.
    func readyMachine() async throws -> any Sandbox {
        if case .ready = state, let halt { throw SwiftletError(.unavailable, "pod sandbox \(id): \(halt)") }
        return try await heldMachine()
    }

    /// As ``readyMachine()``, and also a halted one whose container is a machine: that ends without its guest.
    func endingMachine() async throws -> any Sandbox {
        if case .ready = state, halt != nil, let machine, machine is any MachineControl { return machine }
        return try await readyMachine()
    }

    /// As ``readyMachine()``, whether it runs or not.
    func heldMachine() async throws -> any Sandbox {
        if case .ready = state, machine == nil, let reattachAttempt {
            try await withDeadline(context.deadlines.guestAnswer, "pod sandbox \(id): find its machine again") {
                await reattachAttempt.value
            }
        }
        guard case .ready = state else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(id) is \(state.name), not ready")
        }
        guard let machine else {
            throw SwiftletError(.unavailable, "pod sandbox \(id): its machine is still looked for after a restart; try again")
        }
        return machine
    }

    private func logPath(of spec: ContainerSpec) -> String {
        guard !spec.logPath.isEmpty, !self.spec.logDirectory.isEmpty else { return "" }
        return self.spec.logDirectory + "/" + spec.logPath
    }

    /// Whether the containers' logs are ``ContainerOutput``'s to write.
    nonisolated var hasLogs: Bool { !handler.capabilities.writesLogs }

    func openLog(of container: Container) async throws {
        guard hasLogs else { return }
        var target = logTarget(of: container)
        let budget = try PodLogBudget.budget(spec.annotations, configured: context.logBudget)
        (target.budget, target.rotation) = (budget.isUnlimited ? nil : budget, context.logRotation)
        try await context.output.open(target)
    }

    /// Has the lines of a log that the handler's own process writes collected.
    func collectLog(of container: Container) {
        guard !container.logPath.isEmpty else { return }
        context.output.collect(logTarget(of: container))
    }

    private func logTarget(of container: Container) -> LogTarget {
        let (pod, metadata) = (spec.metadata, container.spec.metadata)
        return LogTarget(
            container: container.id, directory: spec.logDirectory, path: container.logPath.isEmpty ? "" : container.spec.logPath,
            names: ContainerNames(
                namespace: pod.namespace, pod: pod.name, podUID: pod.uid, container: metadata.name, attempt: metadata.attempt))
    }
}
