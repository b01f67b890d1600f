import Concurrency
import Errors
import Logging
import Runtime
import State

extension Pod {
    /// Takes in the containers of an earlier daemon. Called once, before anything else.
    func restore(_ stored: [(snapshot: ContainerSnapshot, resources: [LedgerEntry])]) {
        for (snapshot, resources) in stored {
            let ledger = Ledger(owner: snapshot.id, database: context.store.database, entries: resources)
            let container = Container(snapshot, ledger: ledger)
            containers[snapshot.id] = container
            context.snapshots.publish(snapshot)
        }
        publish()
    }

    /// Goes on where an earlier daemon was ended.
    ///
    /// - Returns: whether the pod is nobody's: its RunPodSandbox never answered.
    func recover() async -> Bool {
        // Its machine runs on: another version may read the record.
        if isUnreadable { return false }
        switch state {
        case .ready, .paused:
            let attempt = Task { await self.reattachUntilDecided() }
            reattachAttempt = attempt
            await attempt.value
            return false
        case .reserved, .starting:
            await fail(step: "interrupted by a restart")
            return isClean
        case .stopping:
            try? await stop()
            return false
        case .failed:
            await fail(step: "failed before a restart")
            return false
        case .stopped, .removed:
            for container in containers.values { await markLost(container, "the pod sandbox was stopped") }
            return false
        }
    }

    /// Gives the pod up with its machine, which the daemon before did not survive.
    func setApart(_ reason: String) async -> Bool {
        guard state.isUp, !isUnreadable else { return await recover() }
        logger.error("pod set apart", metadata: ["pod": "\(id)", "reason": "\(reason)"])
        await fail(step: reason)
        return false
    }

    /// Looks for the machine until it is found, or certainly gone. A libvirt or an agent that does not answer proves nothing.
    ///
    /// Each attempt waits longer than the one before, up to a minute: a hostile guest fills no log.
    private func reattachUntilDecided() async {
        var pause = Duration.seconds(2)
        while !Task.isCancelled, state.isUp, let network = state.network {
            do {
                return try await reattach(network)
            } catch let error as SwiftletError where error.code == .notFound {
                return await fail(step: "found no machine after a restart: \(error.message)")
            } catch let halt as SandboxHalt {
                changed(halt)
                try? await Task.sleep(for: .seconds(1))
            } catch {
                logger.warning("machine not found again yet", metadata: ["pod": "\(id)", "error": "\(error)"])
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(60))
            }
        }
    }

    private func reattach(_ network: SandboxNetwork) async throws {
        let (handler, context) = (handler, context(of: network))
        let found = try await withDeadline(self.context.deadlines.guestAnswer, "reattach pod sandbox \(id)") {
            try await handler.reattach(context)
        }
        let states: [String: GuestContainerState]
        do {
            states = try await withDeadline(self.context.deadlines.guestAnswer, "list containers") { try await found.containerStates() }
        } catch {
            found.close()
            throw error
        }
        guard state.isUp, !Task.isCancelled else { return found.close() }
        adopt(found)
        for container in containers.values { await resume(container, states[container.id], found) }
    }

    /// Brings a container's record and what the guest says of it together.
    private func resume(_ container: Container, _ guest: GuestContainerState?, _ machine: any Sandbox) async {
        switch (container.state, guest) {
        case (.exited, _), (.removed, _): return
        case (.created, nil):
            // Its CreateContainer never answered.
            return await discard(container)
        case (.created, _), (.running, _):
            await followFromLog(container.id, machine)
        }
        if container.isRunning {
            watchExit(container, machine)
        } else if guest == .started {
            try? await started(container, machine)
        }
    }

    /// Goes on with a log. Until it can be opened again the guest keeps the output, and the container waits when it is full.
    private func followFromLog(_ id: String, _ machine: any Sandbox) async {
        guard state.isUp, let container = containers[id], container.removeAttempt == nil else { return }
        guard hasLogs else {
            if container.isRunning { collectLog(of: container) }
            return
        }
        do {
            try await openLog(of: container)
            context.output.follow(id, from: machine.output(of: id))
        } catch {
            logger.error("log not reopened yet", metadata: ["container": "\(id)", "error": "\(error)"])
            Task {
                try await Task.sleep(for: .seconds(2))
                await self.followFromLog(id, machine)
            }
        }
    }
}
