import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Foundation
import Linux
import Logging
import Machines
import Measures
import PodMachine
import PodNetwork
import Runtime
import Synchronization

/// Runs each pod in a virtual machine with Swiftlet's own guest.
public final class MicroVMHandler: RuntimeHandler {
    public let name = "microvm"
    let configuration: MicroVMConfiguration
    let machines: MachineResources
    let logger: Logger
    /// Machines that boot at once. Boots that share the node's CPUs all take longer: of many, the last would run into their time-outs
    /// although nothing is wrong with them.
    private let boots: AsyncSemaphore
    let scratch: ScratchDisk
    let layers: LayerDiskTable
    /// Nil before it is opened, and where none is configured.
    let openedPool = Mutex<MachinePool?>(nil)
    private let refusedSysctls = RefusedSysctls()

    var hypervisor: any Hypervisor { machines.hypervisor }
    var ends: MachineEnds { machines.ends }
    var fullDisks: FullDisks { machines.fullDisks }

    /// Prepares the handler's directories and the scratch disk's template.
    ///
    /// - Parameter resources: what releases the resources that the handler acquires.
    public init(resources: MicroVMResources, logger: Logger) async throws {
        configuration = resources.configuration
        machines = resources.machines
        scratch = resources.scratch
        layers = resources.layers
        self.logger = logger
        boots = AsyncSemaphore(permits: configuration.bootsAtOnce)
        // QEMU's user must reach its sockets and disks, and nobody may list them.
        for directory in [configuration.runDirectory, configuration.stateDirectory, scratch.directory] {
            try Directory.create(directory, mode: 0o711)
        }
        try await scratch.prepareTemplate()
    }

    public func obstacle() async -> String? {
        var files = [(configuration.kernel, "guest kernel"), (configuration.initramfs, "guest initramfs")]
        if let agent = configuration.agent { files.append((agent, "guest agent's disk")) }
        if let modules = configuration.modules { files.append((modules, "guest kernel modules")) }
        if let (path, what) = await OwnThread.answer({ [files] in files.first { access($0.0, R_OK) != 0 } }) {
            return "\(what) \(path) cannot be read; run make guest"
        }
        do {
            _ = try await withDeadline(.seconds(5), "ask libvirt") { [hypervisor] in
                // One that does not exist: the question is whether there is an answer.
                try await hypervisor.machine(MachineID(MachineNames.namespace))
            }
            return nil
        } catch {
            return "\(error)"
        }
    }

    // MARK: Start

    public func start(_ context: SandboxContext) async throws -> any Sandbox {
        try refusedSysctls.check(context.spec.guestSysctls)
        guard let pool = openedPool.withLock({ $0 }) else { return try await start(context, from: nil) }
        return try await pool.start {
            let sandbox = try await start(context, from: pool)
            pool.expectContainer(of: context.id)
            return sandbox
        }
    }

    private func start(_ context: SandboxContext, from pool: MachinePool?) async throws -> any Sandbox {
        var names = MachineNames(id: context.id, configuration: configuration)
        try checkSocketPaths(names)
        let scratch = try ScratchQuota.bytes(context.spec.annotations, configuration: configuration)
        let extent = try await firstExtent(names, context.spec)
        if let pool, let sandbox = try await start(context, extent, scratch: scratch, from: pool) { return sandbox }
        // Before all that will be this user's: it is released after that.
        names.user.uid = try await machines.users.acquire(context.ledger)
        return try await start(context, names, extent)
    }

    private func start(_ context: SandboxContext, _ names: MachineNames, _ extent: MachineExtent) async throws -> any Sandbox {
        try await makeDirectories(names, context.ledger)
        // From before the start: a guest that panics at once must not be missed.
        let expected = ends.expected(of: names.machine)
        let end = Task { await expected.first { _ in true }?.description }
        defer { end.cancel() }
        // The guest needs its addresses only when it is up: the machine boots while the plugins work.
        let (running, booted) = AsyncStream<Void>.makeStream()
        async let guest = measured("swiftlet_machine_boot") { try await bootGuest(names, context, extent, end, booted) }
        let steps = StepTimes(context.id, logger)
        let network = try await network(of: context)
        steps.passed("network attached")
        // Once, as soon as the machine has its tap; never when it does not start: then the guest's error says why.
        for await _ in running {
            try await context.phase("booting")
            try await join(names, with: network, context)
            steps.passed("network joined")
        }
        let (started, process, client) = try await guest
        let size = MachineSize(asked: extent, actual: extent)
        do {
            return try await makePods(
                StartedMachine(names: started, process: process, client: client, size: size), network, context, steps)
        } catch let failure as PodFailure {
            throw failure.cause
        }
    }

    /// A machine whose guest has answered.
    struct StartedMachine: Sendable {
        var names: MachineNames
        /// QEMU; nil under a hypervisor that has no process per machine.
        var process: ProcessIdentity?
        var client: AgentClient
        var size: MachineSize
    }

    func makeDirectories(_ names: MachineNames, _ ledger: Ledger) async throws {
        for directory in [names.runDirectory, names.stateDirectory] {
            try await ledger.acquire(.directory, directory) { try await OwnThread.run { try Directory.create(directory, mode: 0o711) } }
        }
    }

    /// The pod's network, as soon as it is attached.
    func network(of context: SandboxContext) async throws -> AttachedNetwork {
        guard let network = try await context.network.attached().attached else {
            throw SwiftletError(.invalidArgument, "a machine cannot have the node's network")
        }
        try Self.requirePluggable(network.additional)
        return network
    }

    func join(_ names: MachineNames, with network: AttachedNetwork, _ context: SandboxContext) async throws {
        do {
            try await Failpoint.pass("join the network")
            try await context.network.join(tap: names.tap, with: network.primary)
        } catch {
            throw SwiftletError.wrap(error, "join the machine with its network")
        }
    }

    /// Makes a machine that runs, and is joined with its network, the pod's.
    func makePods(
        _ machine: StartedMachine, _ network: AttachedNetwork, _ context: SandboxContext, _ steps: StepTimes
    ) async throws -> MicroVMSandbox {
        let (names, client) = (machine.names, machine.client)
        if Task.isCancelled {
            client.close()
            throw CancellationError()
        }
        do {
            try await plugIn(network.additional, names, context)
        } catch {
            client.close()
            throw SwiftletError.wrap(error, "plug in the pod's further interfaces")
        }
        let sandbox = MicroVMSandbox(
            names: names, networkNamespace: context.network.namespacePath, process: machine.process, client: client,
            mark: context.mark, handler: self, ledger: context.ledger, isNew: true)
        sandbox.size.withLock { $0 = MachineSizeCache(machine.size) }
        do {
            try await Failpoint.pass("configure the guest")
            _ = try await client.call(.startSandbox, await sandboxRequest(names, context.spec, network), timeout: .seconds(20))
            try await Failpoint.pass("guest configured")
        } catch {
            sandbox.close()
            let failure = SwiftletError.wrap(error, "configure the guest")
            if refusedSysctls.note(failure, for: context.spec.guestSysctls) { throw PodFailure(cause: failure) }
            throw failure
        }
        steps.passed("guest configured")
        return sandbox
    }

    private func checkSocketPaths(_ names: MachineNames) throws {
        // sun_path holds 108 bytes with its final NUL (unix(7)).
        for path in [names.vhostSocket, names.hostSocket, names.shareSocket] where path.utf8.count > 107 {
            throw SwiftletError(.failedPrecondition, "socket path \(path) is longer than 107 bytes; choose a shorter run directory")
        }
    }

    /// - Parameters:
    ///   - size: of the scratch disk, in bytes.
    ///   - namespace: where the tap is moved later; nil: not known yet.
    func acquireDevices(_ names: MachineNames, scratch size: UInt64, namespace: String?, _ ledger: Ledger) async throws {
        // Whatever order these are acquired in, each is released after the machine, which comes last.
        async let vsock: Void = configuration.vsockDevices.start(names.vsock, ledger)
        try await ledger.acquire(.scratchDisk, names.scratchDisk) {
            try await scratch.create(names.scratchDisk, size: size, owner: names.user)
        }
        try await machines.acquireTap(names.tap, for: names.user, namespace: namespace, ledger)
        try await vsock
    }

    /// Starts the machine and moves QEMU to where the pod's limits hold it.
    ///
    /// - Returns: the names that it was started with, and QEMU.
    private func startPlacedMachine(
        _ names: MachineNames, _ context: SandboxContext, _ extent: MachineExtent
    ) async throws -> (MachineNames, ProcessIdentity?) {
        let (spec, ledger) = (context.spec, context.ledger)
        do {
            let started = try await startMachine(names, extent, ledger)
            if !spec.cgroupParent.isEmpty { try await PodCgroup.place(ledger) }
            return started
        } catch {
            throw SwiftletError.wrap(error, "boot the machine")
        }
    }

    /// Starts at which the machine is given another vsock context id, as long as each is another machine's.
    private static let mostContextIDs = 8

    func startMachine(
        _ names: MachineNames, _ extent: MachineExtent, _ ledger: Ledger
    ) async throws -> (MachineNames, ProcessIdentity?) {
        var names = names
        for attempt in 1... {
            do {
                let (machine, entry) = (machineSpec(names, extent), names.machine.uuid.uuidString)
                var document = MachineDocument(
                    process: nil, contextID: names.contextID, domain: names.domain, keepsNothing: true, origin: names.origin)
                machines.consoles.watch(names.console, of: names.machine)
                fullDisks.watch(names.scratchDisk, of: names.machine)
                document.process = try await ledger.acquire(.machine, entry, document) { try await hypervisor.start(machine).process }
                try await ledger.note(.machine, entry, document)
                return (names, document.process)
            } catch let error as SwiftletError where error.code == .alreadyExists && attempt < Self.mostContextIDs {
                // The ids of the kernel's device are shared by the node; vsockd's are each machine's own.
                guard configuration.vsock == .kernel else { throw error }
                names.contextID = .random(in: 3..<1 << 31)
            }
        }
        return (names, nil)
    }

    /// Boots the machine and waits for its agent. A machine that does not come up keeps its permit to boot until its time-out.
    ///
    /// - Parameter booted: yields when QEMU runs; finished in any case.
    private func bootGuest(
        _ names: MachineNames, _ context: SandboxContext, _ extent: MachineExtent, _ end: Task<String?, Never>,
        _ booted: AsyncStream<Void>.Continuation
    ) async throws -> (MachineNames, ProcessIdentity?, AgentClient) {
        defer { booted.finish() }
        let steps = StepTimes(names.id, logger)
        // Before the processes that will be in it: it is released after them.
        try await PodCgroup.acquire(
            names.id, below: context.spec.cgroupParent, PodCgroup.limits(context.spec.demand), context.ledger)
        try await PodUsers.noteProcesses(of: names.user, context.ledger)
        let scratch = try ScratchQuota.bytes(context.spec.annotations, configuration: configuration)
        try await acquireDevices(names, scratch: scratch, namespace: context.network.namespacePath, context.ledger)
        steps.passed("devices acquired")
        return try await boots.withPermit {
            steps.passed("permit to boot")
            let (started, process) = try await startPlacedMachine(names, context, extent)
            steps.passed("machine started")
            booted.yield()
            booted.finish()
            let client: AgentClient
            do {
                client = try await firstAnswer(started, end, context.mark)
            } catch {
                guard let reason = await PodCgroup.memoryKill(context.ledger) else { throw error }
                throw SwiftletError(.resourceExhausted, "boot the guest: \(reason)", cause: error)
            }
            steps.passed("agent answered")
            return (started, process, client)
        }
    }

    func machineSpec(_ names: MachineNames, _ extent: MachineExtent) -> MachineSpec {
        MachineSpec(
            id: names.machine, name: names.domain,
            shape: MachineShape(
                memoryBytes: extent.memoryBytes, vcpus: extent.vcpus, growth: configuration.growth(from: extent),
                accelerator: configuration.accelerator),
            boot: .kernel(
                path: configuration.kernel, initramfs: configuration.initramfs,
                arguments: configuration.kernelArguments
                    + (configuration.timeStampCounterKHz.map { GuestKernelArguments.clock(timeStampCounterKHz: $0) } ?? [])),
            devices: agentDisk + [
                .disk(DiskSpec(path: names.scratchDisk, serial: names.scratchSerial, readOnly: false, ephemeral: true)),
                .interface(InterfaceSpec(tap: names.tap, mac: names.bootMAC)), .console(ConsoleSpec(log: names.console)), .random, .balloon,
                .vsock(configuration.vsockDevices.device(names.vsock)),
            ], user: names.user)
    }

    /// The first unit of the SCSI target, as the initramfs expects it (images/guest/init.c). All machines read the same file.
    private var agentDisk: [MachineDevice] {
        configuration.agent.map { [.disk(DiskSpec(path: $0, serial: "agent", readOnly: true))] } ?? []
    }

    /// The agent's first answer, or why the machine will never give one.
    func firstAnswer(_ names: MachineNames, _ end: Task<String?, Never>, _ mark: CrashMark) async throws -> AgentClient {
        let (limit, address) = (configuration.bootTimeout, address(names))
        do {
            try await Failpoint.pass("wait for the guest")
            return try await withThrowingTaskGroup(of: AgentClient?.self) { group in
                group.addTask { try await AgentClient.connect(to: address, deadline: .now + limit, mark: mark) }
                group.addTask {
                    let ended = await withTaskCancellationHandler {
                        await end.value
                    } onCancel: {
                        end.cancel()
                    }
                    guard let reason = ended else { return nil }
                    throw SwiftletError(.internal, "the machine ended: \(reason)")
                }
                defer { group.cancelAll() }
                while let result = try await group.next() {
                    if let client = result { return client }
                }
                throw SwiftletError(.cancelled, "cancelled")
            }
        } catch {
            if let halt = fullDisks.halt(of: names.machine) {
                throw SwiftletError(.resourceExhausted, "boot the guest: \(halt)", cause: error)
            }
            throw SwiftletError.wrap(error, "boot the guest\(await consoleHint(names))")
        }
    }

    func address(_ names: MachineNames) -> VsockAddress { configuration.vsockDevices.address(names.vsock) }

    /// The last line of the console, for an error message. The guest wrote it: bounded and made printable.
    private func consoleHint(_ names: MachineNames) async -> String {
        await OwnThread.answer { Self.lastLine(of: names.console).map { " (console: \(quoted($0)))" } ?? "" }
    }

    private static func lastLine(of console: String) -> String? {
        guard let file = FileHandle(forReadingAtPath: console) else { return nil }
        defer { try? file.close() }
        let size = (try? file.seekToEnd()) ?? 0
        try? file.seek(toOffset: size > 4096 ? size - 4096 : 0)
        let text = String(decoding: (try? file.read(upToCount: 4096)) ?? Data(), as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline).filter { !$0.allSatisfy(\.isWhitespace) }
        let line = lines.last { $0.contains("panic") || $0.contains("Failed") } ?? lines.last
        return line.map { String($0) }
    }

    // MARK: Reattach

    public func reattach(_ context: SandboxContext) async throws -> any Sandbox {
        let entry = context.ledger.entry(.machine)
        let document = try entry?.decoded(MachineDocument.self)
        var names = MachineNames(
            id: context.id, origin: document?.origin, machine: entry.flatMap { MachineID($0.name) }, configuration: configuration)
        if let contextID = document?.contextID { names.contextID = contextID }
        if let user = context.ledger.entry(.user).flatMap({ UInt32($0.name) }) { names.user.uid = user }
        guard let machine = try await hypervisor.machine(names.machine) else {
            throw SwiftletError(.notFound, "machine \(names.domain) is gone")
        }
        machines.consoles.watch(names.console, of: names.machine)
        fullDisks.watch(names.scratchDisk, of: names.machine)
        if machine.state == .diskFull { fullDisks.stopped(names.machine) }
        // Its agent cannot answer.
        if let halt = fullDisks.halt(of: names.machine) { throw halt }
        try await layers.disks(of: names.machine, process: machine.process)
            .restore(context.ledger.all(.layerDisks, named: LayerDisks.name(names.machine, "")))
        let client = try await AgentClient.connect(to: address(names), deadline: .now + .seconds(10), mark: context.mark)
        return MicroVMSandbox(
            names: names, networkNamespace: context.network.namespacePath, process: machine.process, client: client,
            mark: context.mark, handler: self, ledger: context.ledger, isNew: false)
    }
}
