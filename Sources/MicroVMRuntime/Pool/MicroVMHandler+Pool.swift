import AgentClient
import AgentProtocol
import Concurrency
import Crypto
import Errors
import Foundation
import Glibc
import Linux
import Machines
import Measures
import PodMachine
import Runtime
import State

extension MicroVMHandler: PoolingHandler {
    public func openPool(in database: StateDatabase, holding found: [String: [LedgerEntry]], releasers: Releasers) async -> Bool {
        guard !configuration.poolShapes.isEmpty else { return false }
        let pool = MachinePool(self, in: database, releasers: releasers)
        openedPool.withLock { $0 = pool }
        await pool.open(holding: found)
        return true
    }

    public func fillPool() async { await openedPool.withLock { $0 }?.fill() }

    public var pool: PoolFigures? { openedPool.withLock { $0 }?.figures }

    public func closePool() async {
        let pool = openedPool.withLock { pool in
            defer { pool = nil }
            return pool
        }
        await pool?.close()
    }

    /// What machines made now would be made from and as, by their sizes: their files, by places, times and sizes, their hardware, their
    /// arguments.
    func blueprints() async -> [MachineExtent: String] {
        let files = [configuration.kernel, configuration.initramfs] + [configuration.agent, configuration.modules].compactMap(\.self)
        let stamps = await OwnThread.answer { files.map(Self.stamp) }
        let shapes = configuration.poolShapes.map { shape in
            let spec = machineSpec(MachineNames(id: "blueprint", configuration: configuration), shape.extent)
            let text =
                "\(stamps) \(spec.shape) \(configuration.kernelArguments) \(configuration.scratchSize) \(configuration.vsock)"
            return (shape.extent, SHA256.hash(data: Data(text.utf8)).map { String(format: "%02x", $0) }.joined())
        }
        return Dictionary(shapes) { first, _ in first }
    }

    private static func stamp(_ path: String) -> String {
        var status = stat()
        guard stat(path, &status) == 0 else { return "\(path) missing" }
        return "\(path) \(status.st_dev) \(status.st_ino) \(status.st_size) \(status.st_mtim.tv_sec) \(status.st_mtim.tv_nsec)"
    }

    // MARK: Make

    /// Boots a machine, prepares its guest for a pod that is to come, and pauses it. Takes no permit to boot: no pod waits for it.
    ///
    /// - Parameters:
    ///   - id: stands for the pod's.
    ///   - ledger: the machine's own. What is acquired stays listed when this throws.
    func bootForPool(_ id: String, _ extent: MachineExtent, _ ledger: Ledger) async throws -> PooledMachine {
        guard let blueprint = await blueprints()[extent] else { throw SwiftletError(.internal, "the pool has no machines of \(extent)") }
        var names = MachineNames(id: id, configuration: configuration)
        names.user.uid = try await machines.users.acquire(ledger)
        try await makeDirectories(names, ledger)
        let (expected, first, wanted) = (ends.expected(of: names.machine), ends.expected(of: names.machine), names)
        let end = Task { await first.first { _ in true }?.description }
        defer { end.cancel() }
        try await PodUsers.noteProcesses(of: names.user, ledger)
        try await acquireDevices(names, scratch: configuration.scratchSize, namespace: nil, ledger)
        let (started, process) = try await measured("swiftlet_machine_boot") {
            let (started, process) = try await startMachine(wanted, extent, ledger)
            let client = try await firstAnswer(started, end, CrashMark())
            // The pod's start makes a connection of its own, under its pod's mark.
            defer { client.close() }
            try await prepareGuest(started, client)
            return (started, process)
        }
        try await hypervisor.pause(started.machine)
        var document = MachineDocument(
            process: process, contextID: started.contextID, domain: started.domain, keepsNothing: true, origin: started.origin)
        document.blueprint = blueprint
        try await ledger.note(.machine, started.machine.uuid.uuidString, document)
        return PooledMachine(
            names: started, extent: extent, process: process, ledger: ledger, blueprint: blueprint, end: expected)
    }

    /// Has the guest do what no pod is needed for. The disk of the modules on demand stands for a layer.
    private func prepareGuest(_ names: MachineNames, _ client: AgentClient) async throws {
        do {
            var request = AgentPrepareRequest.with { $0.scratchSerial = names.scratchSerial }
            let disk = configuration.modules.map { LayerImage(path: $0, serial: "modules", filesystem: "erofs", sizeBytes: 0) }
            if let disk {
                try await hypervisor.attach([.disk(DiskSpec(path: disk.path, serial: disk.serial, readOnly: true))], to: names.machine)
                request.container = try GuestSpec.container(try Self.trial(on: disk))
            }
            _ = try await client.call(.prepare, request, timeout: configuration.bootTimeout)
            if let disk { try await hypervisor.detach([.disk(serial: disk.serial)], from: names.machine) }
        } catch {
            throw SwiftletError.wrap(error, "prepare the guest")
        }
    }

    /// A container as a kubelet asks for it.
    private static func trial(on layer: LayerImage) throws -> ContainerPlan {
        var spec = ContainerSpec(metadata: ContainerSpec.Metadata(name: "trial", attempt: 0), image: "")
        spec.maskedPaths = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
        spec.readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        spec.resources.memoryLimit = 64 << 20
        var plan = ContainerPlan(
            spec: spec, root: .layers([layer]), arguments: AgentContract.trial, environment: [], workingDirectory: "/",
            user: try UserReference(parsing: "", "user"), stopSignal: 15)
        plan.seccomp = .runtimeDefault
        return plan
    }

    /// The machine that an earlier daemon has left in the pool.
    ///
    /// - Throws: why it is of no use.
    func pooledMachine(_ ledger: Ledger, _ blueprints: [MachineExtent: String]) async throws -> PooledMachine {
        guard let entry = ledger.entry(.machine), let id = MachineID(entry.name),
            let user = ledger.entry(.user).flatMap({ UInt32($0.name) })
        else { throw SwiftletError(.failedPrecondition, "it was being made") }
        let document = try entry.decoded(MachineDocument.self)
        guard let made = document.blueprint else { throw SwiftletError(.failedPrecondition, "it was being made") }
        guard let extent = blueprints.first(where: { $0.value == made })?.key else {
            throw SwiftletError(.failedPrecondition, "it was made from other files, or as another machine")
        }
        // From before the look: an end after it must not be missed.
        let expected = ends.expected(of: id)
        let found = try await withDeadline(.seconds(10), "look for machine \(id)") { [hypervisor] in try await hypervisor.machine(id) }
        guard let found, found.state == .paused else {
            throw SwiftletError(.failedPrecondition, found.map { "it is \($0.state), not paused" } ?? "it is gone")
        }
        var names = MachineNames(
            id: String(ledger.owner.dropFirst(Ledger.poolOwnerPrefix.count)), origin: document.origin, machine: id,
            configuration: configuration)
        if let contextID = document.contextID { names.contextID = contextID }
        names.user.uid = user
        if let process = found.process { try await machines.networks.takeOverTap(name: names.tap, of: process) }
        machines.consoles.watch(names.console, of: id)
        fullDisks.watch(names.scratchDisk, of: id)
        return PooledMachine(
            names: names, extent: extent, process: found.process, ledger: ledger, blueprint: made, end: expected)
    }
}
