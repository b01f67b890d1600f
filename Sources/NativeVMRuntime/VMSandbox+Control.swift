import Errors
import Linux
import Machines
import PodMachine
import Runtime

/// What an operator does to the machine that runs.
extension VMSandbox: MachineControl {
    /// - Throws: `.failedPrecondition` where none runs.
    private func running() throws -> Entry {
        guard let entry = entries.withLock({ $0.values.first { $0.record.isStarted && $0.record.end == nil } }) else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(context.id): its virtual machine does not run")
        }
        return entry
    }

    func describeMachine(withXML: Bool) async throws -> MachineDescription {
        let record = try running().record
        guard let machine = try await hypervisor.machine(record.machine.id) else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(context.id): its virtual machine has just ended")
        }
        var description = MachineDescription(machine, record.machine, console: names(record.container).console)
        description.container = record.container
        (description.vcpus, description.memory) = (record.extent.vcpus, record.extent.memoryBytes)
        if withXML { description.xml = try await hypervisor.domainXML(record.machine.id) }
        return description
    }

    func reset() async throws {
        try await controls.run { [self] in try await hypervisor.reset(try running().record.machine.id) }
    }

    func reboot(within limit: Duration) async throws {
        let record = try running().record
        let (container, machine) = (record.container, record.machine.id)
        let (rebooted, ended) = (machines.reboots.expected(of: machine), machines.ends.expected(of: machine))
        let unheeded = SwiftletError(
            .deadlineExceeded,
            "container \(container): its guest has not rebooted within \(limit.components.seconds) s of the power button: it may be booting or "
                + "shutting down still, or has nothing that listens to the button (acpid, systemd-logind). Try again later, or boot it without "
                + "asking it by swiftlet vm reset: what it has not written is lost then")
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { for await _ in rebooted { return } }
            // By its policy, or in the way of somebody else.
            group.addTask { for await _ in ended { return } }
            group.addTask { [self] in
                try await handler.configuration.powerButton.press { try await pressForReboot(machine, of: container) }
            }
            group.addTask {
                try await Task.sleep(for: limit)
                throw unheeded
            }
            _ = try await group.next()
        }
        try Task.checkCancellation()
    }

    private func pressForReboot(_ machine: MachineID, of container: String) async throws {
        // Others of the operator's wishes come between two presses.
        try await controls.run { [self] in
            guard try running().record.pausedAt == nil else {
                throw SwiftletError(.failedPrecondition, "pod sandbox \(context.id): its machine is paused and hears no power button")
            }
            if !isStopping(container) { try await hypervisor.reboot(machine) }
            guard isStopping(container) else { return }
            // The last press says whether a guest that shuts itself down is booted again.
            try await hypervisor.shutdown(machine)
            throw SwiftletError(.aborted, "container \(container) is being stopped, and not rebooted")
        }
    }

    private func isStopping(_ container: String) -> Bool { entries.withLock { $0[container]?.shutdown != nil } }

    // MARK: Pause

    static func pause(since time: Int64) -> SandboxHalt {
        SandboxHalt(reason: "its virtual machine is paused (swiftlet vm resume lets it go on)", since: time)
    }

    func pause() async throws {
        try await controls.run { [self] in
            let record = try running().record
            let (id, machine) = (record.container, record.machine.id)
            machines.fullDisks.hold(machine)
            let now = WallClock.now()
            // Written down first: of one that a full disk has stopped, libvirt does not say that it is paused as well.
            try await change(id) { $0.pausedAt = $0.pausedAt ?? now }
            do {
                try await hypervisor.pause(machine)
            } catch {
                if record.pausedAt == nil {
                    machines.fullDisks.letGo(machine)
                    _ = try? await change(id) { $0.pausedAt = nil }
                }
                throw SwiftletError.wrap(error, "pod sandbox \(context.id)")
            }
            publishHalt(of: id)
        }
    }

    func resume() async throws {
        try await controls.run { [self] in
            let record = try running().record
            let (id, machine) = (record.container, record.machine.id)
            // For want of room it would stop again at once: it goes on when there is room.
            if try await hypervisor.machine(machine)?.state != .diskFull { try await hypervisor.resume(machine) }
            machines.fullDisks.letGo(machine)
            try await change(id) { $0.pausedAt = nil }
            publishHalt(of: id)
        }
    }

    /// Takes in that somebody else has paused the machine, or let it go on: by virsh, or as its watchdog.
    func pauseChanged(_ id: String) async {
        await controls.run { [self] in
            guard let record = entries.withLock({ $0[id]?.record }), record.end == nil else { return }
            // The next look, after a gap in libvirt's events, finds it else.
            guard let machine = try? await hypervisor.machine(record.machine.id) else { return }
            await findPaused(record, machine.state)
        }
    }

    /// Takes in whether a machine is paused: libvirt's word counts. Of one that a full disk has stopped it does not say, and the record does.
    func findPaused(_ record: VMRecord, _ state: Machine.State) async {
        let isPaused = state == .paused || state == .diskFull && record.pausedAt != nil
        if isPaused { machines.fullDisks.hold(record.machine.id) } else { machines.fullDisks.letGo(record.machine.id) }
        guard isPaused != (record.pausedAt != nil) else { return publishHalt(of: record.container) }
        let now = WallClock.now()
        do {
            try await change(record.container) { $0.pausedAt = isPaused ? now : nil }
        } catch {
            logger.warning("pause of a machine not noted", metadata: ["container": "\(record.container)", "error": "\(error)"])
        }
        publishHalt(of: record.container)
    }

    // MARK: Screen, keys and disks

    func screenshot() async throws -> [UInt8] { try await hypervisor.screenshot(try running().record.machine.id) }

    /// How long an agent may take to say that it is there.
    private static let pingPatience = Duration.seconds(3)
    /// How long it may take to change a file.
    private static let keyPatience = Duration.seconds(10)

    func addAuthorizedKeys(_ keys: [String], of user: String) async throws {
        let id = try running().record.container
        let agent = try agent(of: id)
        do {
            try await agent.ping(within: Self.pingPatience)
        } catch {
            throw SwiftletError(
                .unavailable,
                "no qemu-guest-agent answers in the guest of container \(id), which may still be booting: SSH keys come by the seed else",
                cause: error)
        }
        do {
            try await agent.addAuthorizedKeys(keys, of: user, within: Self.keyPatience)
        } catch {
            throw SwiftletError.wrap(error, "container \(id): SSH keys of \(quoted(user))")
        }
    }

    func checkDisks(of container: String) async throws -> [CheckedDisk] {
        guard let record = entries.withLock({ $0[container]?.record }) else { throw SwiftletError(.notFound, "container \(container)") }
        guard let user = record.machine.user else { throw SwiftletError(.dataLoss, "record of a VM: it names no user") }
        let disks = record.machine.disks.filter { $0.format == .qcow2 && !$0.readOnly }
        guard !disks.isEmpty else {
            throw SwiftletError(.failedPrecondition, "container \(container): none of its disks is qcow2; a raw one has no tables to check")
        }
        var checked: [CheckedDisk] = []
        for disk in disks {
            let check = try await OverlayDisk().check(disk.path, owner: user)
            checked.append(
                CheckedDisk(
                    serial: disk.serial, path: disk.path, corruptions: check.corruptions, leaks: check.leaks,
                    checkErrors: check.checkErrors, totalClusters: check.totalClusters, allocatedClusters: check.allocatedClusters))
        }
        return checked
    }
}
