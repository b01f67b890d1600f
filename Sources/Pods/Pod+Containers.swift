import Errors
import Images
import Logging
import Logs
import State

extension Pod {
    // MARK: Create

    /// Makes a container in the running machine.
    func createContainer(_ spec: ContainerSpec) async throws -> String {
        let machine = try readyMachine()
        guard let image = try await context.images.status(spec.image) else {
            throw SwiftletError(.notFound, "container \(spec.metadata.name): image \(spec.image) is not on this node; pull it first")
        }
        let rootfs = try await context.images.rootfs(of: image.id)
        let plan = try ContainerPlan(spec, rootfs: rootfs, hostname: self.spec.hostname)
        try checkPidTarget(spec)
        let id = Identifier.make()
        let snapshot = ContainerSnapshot(
            id: id, sandboxID: self.id, spec: spec, imageID: image.id, state: .created,
            createdAt: Clock.now(), logPath: logPath(of: spec), stopSignal: plan.stopSignal)
        let container = Container(snapshot, ledger: Ledger(owner: id, database: context.store.database))
        try await context.store.save(snapshot)
        containers[id] = container
        do {
            container.log = try openLog(container)
            let images = context.images
            try await container.ledger.acquire(.imageLease, id) { try await images.lease(imageID: image.id, holder: id) }
            try await withDeadline(context.deadlines.guestAnswer, "create container \(spec.metadata.name)") {
                try await machine.createContainer(id, plan)
            }
        } catch {
            await discard(container)
            throw SwiftletError.wrap(error, "pod sandbox \(self.id): container \(spec.metadata.name)")
        }
        startPump(container, machine)
        context.snapshots.publish(container.snapshot)
        return id
    }

    private func checkPidTarget(_ spec: ContainerSpec) throws {
        guard spec.pidMode == .target else { return }
        guard let target = containers[spec.pidTarget], target.isRunning else {
            throw SwiftletError(
                .invalidArgument, "namespace_options.target_id \(Identifier.printable(spec.pidTarget)) is no running container of the pod")
        }
    }

    /// Undoes a creation that failed.
    private func discard(_ container: Container) async {
        container.pump?.cancel()
        await container.log?.close()
        if let machine { try? await machine.deleteContainer(container.id) }
        let left = await release(container.ledger)
        guard left.isEmpty else {
            _ = try? container.lifecycle.handle(
                .exited(ContainerExit(code: 128, finishedAt: Clock.now(), reason: "CreateError", message: left[0].reason)))
            try? await context.store.save(container.snapshot)
            context.snapshots.publish(container.snapshot)
            return
        }
        removePosition(of: container)
        containers[container.id] = nil
        try? await context.store.deleteContainer(container.id)
    }

    // MARK: Start

    /// Runs the container's first process. Joins a start in flight.
    ///
    /// - Throws: the guest's reason; the container is EXITED with StartError then.
    func startContainer(_ id: String) async throws {
        let container = try container(id)
        if let attempt = container.startAttempt { return try await attempt.value }
        guard case .created = container.state else {
            throw SwiftletError(.failedPrecondition, "container \(id) is \(container.state.name); only a created one can be started")
        }
        let machine = try readyMachine()
        let attempt = Task { try await performStart(container, machine) }
        container.startAttempt = attempt
        defer { container.startAttempt = nil }
        try await attempt.value
    }

    private func performStart(_ container: Container, _ machine: any SandboxMachine) async throws {
        let id = container.id
        do {
            try await withDeadline(context.deadlines.guestAnswer, "start container \(container.spec.metadata.name)") {
                try await machine.startContainer(id)
            }
        } catch {
            let failure = SwiftletError.wrap(error, "container \(container.spec.metadata.name)")
            await record(container, exit: ContainerExit(code: 128, finishedAt: Clock.now(), reason: "StartError", message: failure.description))
            throw failure
        }
        _ = try container.lifecycle.handle(.started(at: Clock.now()))
        try await context.store.save(container.snapshot)
        context.snapshots.publish(container.snapshot)
        watchExit(container, machine)
    }

    func startPump(_ container: Container, _ machine: any SandboxMachine) {
        guard let log = container.log else { return }
        let (id, logger) = (container.id, logger)
        container.pump = Task {
            do {
                try await machine.pumpOutput(id, into: ContainerLogSink(log: log))
            } catch {
                if !Task.isCancelled { logger.warning("output lost", metadata: ["container": "\(id)", "error": "\(error)"]) }
            }
            await log.close()
        }
    }

    func watchExit(_ container: Container, _ machine: any SandboxMachine) {
        let (id, drain) = (container.id, context.deadlines.logDrain)
        let pump = container.pump
        container.exitWatch = Task { [weak self] in
            guard let exit = try? await machine.waitForExit(id) else { return }
            let finishedAt = Clock.now()
            if let pump { try? await withDeadline(drain, "drain the log") { await pump.value } }
            await self?.exited(id, exit, at: finishedAt)
        }
    }

    private func exited(_ id: String, _ exit: ProcessExit, at finishedAt: Int64) async {
        guard let container = containers[id] else { return }
        let reason = exit.outOfMemory ? "OOMKilled" : exit.code == 0 ? "Completed" : "Error"
        await record(container, exit: ContainerExit(code: exit.code, finishedAt: finishedAt, reason: reason))
    }

    func record(_ container: Container, exit: ContainerExit) async {
        guard (try? container.lifecycle.handle(.exited(exit))) == true else { return }
        do {
            try await context.store.save(container.snapshot)
        } catch {
            logger.error("exit not saved", metadata: ["container": "\(container.id)", "error": "\(error)"])
        }
        context.snapshots.publish(container.snapshot)
        let waiters = container.exitWaiters
        container.exitWaiters = []
        for waiter in waiters { waiter.resume() }
    }

    // MARK: Stop and remove

    /// Asks the container to end, and makes it end when `timeout` has passed. Idempotent.
    ///
    /// - Throws: `.deadlineExceeded` when the guest does not confirm the kill; StopPodSandbox ends such a machine.
    func stopContainer(_ id: String, timeout: Duration) async throws {
        let container = try container(id)
        if let attempt = container.startAttempt { _ = await attempt.result }
        switch container.state {
        case .exited, .removed: return
        case .created:
            await record(container, exit: ContainerExit(code: 137, finishedAt: Clock.now(), reason: "Error", message: "stopped before its start"))
            return
        case .running: break
        }
        let machine = try readyMachine()
        if timeout > .zero {
            let signal = container.stopSignal
            try? await withDeadline(context.deadlines.guestAnswer, "signal") { try await machine.signal(id, signal, all: false) }
            if await exits(container, within: timeout) { return }
        }
        try await withDeadline(context.deadlines.guestAnswer, "kill container \(id)") { try await machine.signal(id, 9, all: true) }
        guard await exits(container, within: context.deadlines.kill) else {
            throw SwiftletError(.deadlineExceeded, "container \(id): the guest did not confirm SIGKILL; stop the pod sandbox to end its machine")
        }
    }

    private func exits(_ container: Container, within limit: Duration) async -> Bool {
        let id = container.id
        do {
            try await withDeadline(limit, "exit") { await self.waitForRecordedExit(id) }
            return true
        } catch {
            return !container.isRunning
        }
    }

    func waitForRecordedExit(_ id: String) async {
        guard let container = containers[id], container.isRunning else { return }
        await withCheckedContinuation { container.exitWaiters.append($0) }
    }

    /// Ends the container if it runs, and forgets it. Idempotent.
    func removeContainer(_ id: String) async throws {
        guard let container = containers[id] else { return }
        if container.isRunning || container.startAttempt != nil { try await stopContainer(id, timeout: .zero) }
        try await remove(container)
    }

    func remove(_ container: Container) async throws {
        if let machine {
            let id = container.id
            try await withDeadline(context.deadlines.guestAnswer, "remove container \(id)") { try await machine.deleteContainer(id) }
        }
        container.pump?.cancel()
        container.exitWatch?.cancel()
        let left = await release(container.ledger)
        guard left.isEmpty else {
            throw SwiftletError(.internal, "container \(container.id) still holds \(left[0].entry.kind.rawValue): \(left[0].reason)")
        }
        if container.isRunning { return }
        _ = try container.lifecycle.handle(.removeRequested)
        try await context.store.deleteContainer(container.id)
        removePosition(of: container)
        containers[container.id] = nil
        context.snapshots.withdraw(container: container.id)
    }

    // MARK: Exec

    func execute(_ id: String, _ command: [String], timeout: Duration?, outputLimit: Int) async throws -> ExecResult {
        let container = try container(id)
        guard container.isRunning else {
            throw SwiftletError(.failedPrecondition, "container \(id) is \(container.state.name); exec needs a running one")
        }
        return try await readyMachine().execute(id, command, timeout: timeout, outputLimit: outputLimit)
    }

    // MARK: Lookup

    func container(_ id: String) throws -> Container {
        guard let container = containers[id] else { throw SwiftletError(.notFound, "container \(id)") }
        return container
    }

    func readyMachine() throws -> any SandboxMachine {
        guard case .ready = state, let machine else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(id) is \(state.name), not ready")
        }
        return machine
    }

    private func logPath(of spec: ContainerSpec) -> String {
        guard !spec.logPath.isEmpty, !self.spec.logDirectory.isEmpty else { return "" }
        return self.spec.logDirectory + "/" + spec.logPath
    }

    func openLog(_ container: Container) throws -> ContainerLog {
        try ContainerLog(path: container.logPath.isEmpty ? nil : container.logPath, positionPath: positionPath(of: container))
    }
}
