import Concurrency
import Errors
import Logging
import Runtime

extension Pod {
    /// What the machine has to hold now.
    var demand: PodDemand {
        let living = containers.values.filter { container in
            switch container.state {
            case .created, .running: true
            case .exited, .removed: false
            }
        }
        return PodDemand(pod: resources.pod, overhead: resources.overhead, containers: living.map(\.spec.resources))
    }

    /// Lets the machine grow when it is too small for its containers' limits. One at a time: what is demanded counts when the turn
    /// comes, so that an earlier demand never overrides a later one.
    func fit(_ machine: any Sandbox) async throws {
        try await fits.run { try await self.fitNow(machine) }
    }

    /// Sets the limits of the pod's control group again: the daemon before may have waited for the groups above to allow them.
    func refit() async {
        guard state.isUp, !spec.cgroupParent.isEmpty, let machine = try? await readyMachine() else { return }
        do {
            try await fit(machine)
        } catch {
            logger.warning("limits of a pod are not set", metadata: ["pod": "\(id)", "error": "\(error)"])
        }
    }

    private func fitNow(_ machine: any Sandbox) async throws {
        let demand = demand
        try await withDeadline(context.deadlines.guestAnswer, "fit the machine to its pod") { try await machine.fit(demand) }
    }

    // MARK: Containers

    /// Changes a container's limits: all that `change` says, or nothing.
    ///
    /// - Throws: `.failedPrecondition` for a container that has ended; `.invalidArgument` naming the field; the guest's or the
    ///   hypervisor's reason.
    func updateContainer(_ id: String, _ change: LinuxResources) async throws {
        let container = try container(id)
        try await container.updates.run { try await self.performUpdate(id, change) }
    }

    private func performUpdate(_ id: String, _ change: LinuxResources) async throws {
        let container = try container(id)
        try requireLimits(of: container)
        let old = container.spec.resources
        let new = old.updated(by: change)
        try new.check("linux")
        try handler.capabilities.check(new, "linux", handler: handler.name)
        guard new != old else { return }
        let machine = try await readyMachine()
        // From here on the machine has to have room for it.
        container.spec.resources = new
        // A call that ends in its deadline may have changed the guest all the same.
        var mayBeChanged = false
        do {
            try await fit(machine)
            try requireLimits(of: container)
            mayBeChanged = true
            try await withDeadline(context.deadlines.guestAnswer, "update container \(id)") {
                try await machine.updateContainer(id, from: old, to: new)
            }
            do {
                try await save(container)
            } catch {
                throw SwiftletError.wrap(error, "save the limits of container \(id)")
            }
        } catch {
            container.spec.resources = old
            if mayBeChanged {
                try? await withDeadline(context.deadlines.guestAnswer, "undo") { try await machine.updateContainer(id, from: new, to: old) }
            }
            try? await fit(machine)
            throw SwiftletError.wrap(error, "pod sandbox \(self.id): container \(container.spec.metadata.name)")
        }
        context.snapshots.publish(container.snapshot)
    }

    private func requireLimits(of container: Container) throws {
        switch container.state {
        case .created where container.removeAttempt == nil: return
        case .running where container.removeAttempt == nil && container.arrivedExit == nil: return
        default:
            throw SwiftletError(
                .failedPrecondition,
                "container \(container.id) is \(container.hasEnded ? "exited" : container.state.name); only a created or running one has "
                    + "limits to change")
        }
    }

    // MARK: The pod

    /// Changes the limits of the pod as a whole: its machine grows, and the node's control group gets them.
    ///
    /// - Throws: `.failedPrecondition` for a sandbox that is not ready; `.invalidArgument` naming the field.
    func updateResources(pod change: LinuxResources?, overhead: LinuxResources?) async throws {
        try await updates.run { try await self.performUpdate(pod: change, overhead: overhead) }
    }

    private func performUpdate(pod change: LinuxResources?, overhead: LinuxResources?) async throws {
        let machine = try await readyMachine()
        let old = resources
        var new = old
        if let change { new.pod = (old.pod ?? LinuxResources()).updated(by: change) }
        if let overhead { new.overhead = (old.overhead ?? LinuxResources()).updated(by: overhead) }
        for (limits, field) in [(new.pod, "resources"), (new.overhead, "overhead")] {
            try limits?.check(field)
            try limits.map { try handler.capabilities.check($0, field, handler: handler.name) }
        }
        guard new != old else { return }
        resources = new
        do {
            try await fit(machine)
            try await save()
        } catch {
            resources = old
            try? await fit(machine)
            throw SwiftletError.wrap(error, "pod sandbox \(id)")
        }
    }
}

/// A pod's limits as a whole.
struct PodResources: Sendable, Equatable {
    var pod: LinuxResources?
    var overhead: LinuxResources?
}
