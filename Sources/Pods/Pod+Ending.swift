import Concurrency
import Errors
import Logging
import Measures
import Runtime
import State

extension Pod {
    // MARK: Stop

    /// Asks the container to end, and makes it end when `timeout` has passed. Idempotent; one that never ran stays as it is, and one
    /// whose machine goes away meanwhile has ended.
    ///
    /// - Throws: `.deadlineExceeded` when the guest does not confirm the kill; StopPodSandbox ends such a machine.
    func stopContainer(_ id: String, timeout: Duration) async throws {
        let container = try container(id)
        if let attempt = container.startAttempt { _ = await attempt.result }
        guard container.isRunning else { return }
        guard case .ready = state else { return await markLost(container, "its pod sandbox is \(state.name)") }
        let machine = try await endingMachine()
        do {
            try await end(container, in: machine, timeout: timeout)
        } catch {
            // The machine's watch may need a moment to see that it is gone; the container ends with it.
            guard await ends(container, within: context.deadlines.kill) else { throw error }
        }
    }

    private func end(_ container: Container, in machine: any Sandbox, timeout: Duration) async throws {
        let id = container.id
        if timeout > .zero {
            let signal = container.stopSignal
            let delivered: Void? = try? await withDeadline(context.deadlines.guestAnswer, "signal") {
                try await machine.signal(id, signal, all: false)
            }
            if delivered != nil, await ends(container, within: timeout) { return await waitForRecord(container) }
        }
        try await withDeadline(context.deadlines.guestAnswer, "kill container \(id)") { try await machine.signal(id, 9, all: true) }
        guard await ends(container, within: context.deadlines.kill) else {
            throw SwiftletError(
                .deadlineExceeded, "container \(id): the guest did not confirm SIGKILL; stop the pod sandbox to end its machine")
        }
        await waitForRecord(container)
    }

    /// Whether the first process ends in time; its log may still be on its way.
    private func ends(_ container: Container, within limit: Duration) async -> Bool {
        let id = container.id
        try? await withDeadline(limit, "exit") { await self.waitForRecordedExit(id) }
        return container.hasEnded
    }

    /// Until the end that arrived is recorded, which its log's deadline bounds.
    private func waitForRecord(_ container: Container) async {
        let id = container.id
        try? await withDeadline(context.deadlines.logDrain + Self.lateDrain + .seconds(1), "record") { await self.waitForRecordedExit(id) }
    }

    func waitForRecordedExit(_ id: String) async {
        guard let container = containers[id], container.isRunning else { return }
        await withCheckedContinuation { container.exitWaiters.append($0) }
    }

    /// Ends what runs, within the deadline, so that exit codes and last lines arrive before the machine goes.
    func endContainers(_ steps: StepTimes) async {
        let running = containers.values.filter(\.isRunning).map(\.id)
        // A guest that does not run hears nothing; its exits and last lines wait in vain.
        let machine = halt == nil ? machine : nil
        if let machine, !running.isEmpty {
            try? await withDeadline(context.deadlines.sandboxStop, "end containers") {
                await withTaskGroup(of: Void.self) { group in
                    for id in running {
                        group.addTask {
                            try? await machine.signal(id, 9, all: true)
                            await self.waitForRecordedExit(id)
                        }
                    }
                }
            }
        }
        steps.passed("containers ended")
        if let machine { try? await withDeadline(.seconds(2), "shut down") { await machine.requestShutdown() } }
        steps.passed("guest told")
        for container in containers.values { await markLost(container, "the pod sandbox was stopped") }
    }

    // MARK: Remove

    /// Ends the container if it runs, and forgets it. Idempotent.
    func removeContainer(_ id: String) async throws {
        guard let container = containers[id] else { return }
        try await remove(container)
    }

    /// Joins a removal in flight.
    func remove(_ container: Container) async throws {
        if let attempt = container.removeAttempt { return try await attempt.value }
        let attempt = Task { try await performRemoval(container) }
        container.removeAttempt = attempt
        defer { container.removeAttempt = nil }
        try await attempt.value
    }

    private func performRemoval(_ container: Container) async throws {
        let id = container.id
        try await stopContainer(id, timeout: .zero)
        // A change of limits in flight would save the container again; one that begins now is refused.
        await container.updates.drained()
        if case .ready = state {
            let machine = try await endingMachine()
            do {
                try await withDeadline(context.deadlines.guestAnswer, "remove container \(id)") { try await machine.deleteContainer(id) }
            } catch {
                guard await isLost(within: context.deadlines.kill) else { throw error }
            }
        }
        container.exitWatch?.cancel()
        await context.output.close(id)
        let left = await release(container)
        guard left.isEmpty else {
            throw SwiftletError(.internal, "container \(id) still holds \(left[0].entry.kind): \(left[0].reason)")
        }
        await context.output.remove(id)
        // Before its record goes: a save that waits for its turn must not bring it back.
        containers[id] = nil
        do {
            try await deleteRecord(of: container)
        } catch {
            containers[id] = container
            throw error
        }
        if container.state != .removed { _ = try container.lifecycle.handle(.removeRequested) }
        context.snapshots.withdraw(container: id)
    }

    // MARK: Exec

    func execute(_ id: String, _ command: [String], timeout: Duration?, output: OutputAllowance) async throws -> ExecResult {
        try requireRunning(try container(id), for: "exec")
        return try await readyMachine().execute(id, command, timeout: timeout, output: output)
    }
}
