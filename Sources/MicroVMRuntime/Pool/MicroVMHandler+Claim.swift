import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Linux
import Logging
import Machines
import Measures
import PodMachine
import PodNetwork
import Runtime

extension MicroVMHandler {
    /// How long a machine of the pool may take to go on, to answer and to grow: about as long as a boot.
    private static let patience = Duration.seconds(5)
    /// A guest describes memory that it gets later in the memory that it has: 1/64 of it.
    private static let mostGrowth: UInt64 = 16

    /// The pod could not have had any machine: its network, its control group or what it asks of the kernel.
    struct PodFailure: Error {
        var cause: any Error
    }

    /// Gives the pod a machine of the pool.
    ///
    /// - Parameter scratch: bytes of the scratch disk that the pod asks for.
    /// - Returns: nil when there is none that fits, or it is of no use: it is ended then, and the start goes on with a boot.
    /// - Throws: what would fail with any machine.
    func start(
        _ context: SandboxContext, _ wanted: MachineExtent, scratch: UInt64, from pool: MachinePool
    ) async throws -> (any Sandbox)? {
        let steps = StepTimes(context.id, logger)
        guard scratch == configuration.scratchSize, let machine = await pool.take(wanted, await blueprints()) else {
            counted("swiftlet_pool_start", result: "miss")
            pool.count { $0.misses += 1 }
            return nil
        }
        steps.passed("machine found")
        do {
            let sandbox = try await claim(machine, of: pool, context, wanted, steps)
            counted("swiftlet_pool_start", result: "hit")
            pool.countHit(machine.extent)
            return sandbox
        } catch let failure as PodFailure {
            throw failure.cause
        } catch {
            counted("swiftlet_pool_start", result: "failed")
            pool.count { $0.failures += 1 }
            logger.warning(
                "machine of the pool is of no use, another is booted",
                metadata: ["pod": "\(context.id)", "domain": "\(machine.names.domain)", "error": "\(error)"])
            try await Failpoint.pass("throw the pool's machine away", around: { try await pool.takeBack(machine, from: context.ledger) })
            try Task.checkCancellation()
            return nil
        }
    }

    /// A machine larger than the pod's limits would be ended for its size; a smaller one grows, but for emulated vCPUs.
    func machine(of extent: MachineExtent, fits wanted: MachineExtent) -> Bool {
        let fits = wanted.vcpus == extent.vcpus || wanted.vcpus > extent.vcpus && configuration.accelerator != .tcg
        return fits && wanted.memoryBytes >= extent.memoryBytes && wanted.memoryBytes / Self.mostGrowth <= extent.memoryBytes
    }

    /// The machine goes on while the pod's network is attached, and is the pod's after that: until then it can be another's.
    private func claim(
        _ machine: PooledMachine, of pool: MachinePool, _ context: SandboxContext, _ wanted: MachineExtent, _ steps: StepTimes
    ) async throws -> MicroVMSandbox {
        let awake = Task {
            try await withDeadline(Self.patience, "wake the machine") { try await self.wake(machine, context.mark, steps) }
        }
        let network: AttachedNetwork
        do {
            // Before the processes that will be in it: it is released after them.
            try await PodCgroup.acquire(
                context.id, below: context.spec.cgroupParent, PodCgroup.limits(context.spec.demand), context.ledger)
            network = try await self.network(of: context)
        } catch {
            pool.giveBack(machine, awake)
            throw PodFailure(cause: error)
        }
        steps.passed("network attached")
        let client = try await withTaskCancellationHandler {
            try await awake.value
        } onCancel: {
            awake.cancel()
        }
        let names = machine.names.of(pod: context.id)
        do {
            try await Failpoint.pass("claim the machine", around: { try await machine.ledger.transfer(to: context.ledger) })
            // Before it is moved there.
            try await context.ledger.note(.tap, names.tap, TapDocument(namespace: context.network.namespacePath ?? ""))
        } catch {
            client.close()
            throw error
        }
        steps.passed("machine claimed")
        // What the node does for the machine waits for the kernel, and the guest needs none of it to become the pod's.
        async let fitted = withDeadline(Self.patience, "fit the machine") { [self] in try await fit(machine, client, context, wanted, steps)
        }
        async let joined: Void = joinClaimed(names, with: network, context, steps)
        let size = MachineSize(asked: wanted, actual: machine.extent)
        let started = StartedMachine(names: names, process: machine.process, client: client, size: size)
        async let made = makePods(started, network, context, steps)
        let actual: MachineSize
        do {
            try await joined
            actual = try await fitted
        } catch {
            // The guest is not waited for.
            client.close()
            (try? await made)?.close()
            throw error
        }
        let sandbox = try await made
        sandbox.size.withLock { $0 = MachineSizeCache(actual) }
        return sandbox
    }

    private func joinClaimed(
        _ names: MachineNames, with network: AttachedNetwork, _ context: SandboxContext, _ steps: StepTimes
    ) async throws {
        try await join(names, with: network, context)
        steps.passed("network joined")
    }

    /// Lets the machine go on and waits for its guest, which is told nothing of the pod.
    private func wake(_ machine: PooledMachine, _ mark: CrashMark, _ steps: StepTimes) async throws -> AgentClient {
        try await Failpoint.pass("resume the machine", around: { try await hypervisor.resume(machine.names.machine) })
        steps.passed("machine resumed")
        try await Failpoint.pass("wait for the guest")
        let client = try await AgentClient.connect(to: address(machine.names), deadline: .now + Self.patience, mark: mark)
        guard client.info.sandboxID.isEmpty else {
            client.close()
            throw SwiftletError(.failedPrecondition, "the guest is a pod's already")
        }
        steps.passed("agent answered")
        return client
    }

    /// Moves the machine to where the pod's limits hold it, and makes it as large as they allow.
    private func fit(
        _ machine: PooledMachine, _ client: AgentClient, _ context: SandboxContext, _ wanted: MachineExtent, _ steps: StepTimes
    ) async throws -> MachineSize {
        try await PodCgroup.place(context.ledger)
        steps.passed("machine placed")
        var size = MachineSize(asked: wanted, actual: machine.extent)
        guard wanted != size.actual else { return size }
        size.actual = try await hypervisor.grow(machine.names.machine, to: wanted)
        let request = AgentGrowRequest.with { $0.cpus = UInt32(clamping: wanted.vcpus) }
        _ = try await client.call(.grow, request, timeout: Self.patience)
        try await PodCgroup.place(context.ledger)
        steps.passed("machine grown")
        return size
    }
}

extension MachineNames {
    /// The names of the same machine, when it is a pod's.
    fileprivate func of(pod: String) -> MachineNames {
        var names = MachineNames(id: pod, origin: origin, machine: machine, configuration: configuration)
        (names.user, names.contextID) = (user, contextID)
        return names
    }
}
