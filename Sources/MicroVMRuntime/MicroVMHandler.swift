import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Foundation
import Linux
import Logging
import Machines
import PodNetwork
import Runtime

/// Runs each pod in a virtual machine with Swiftlet's own guest.
public final class MicroVMHandler: RuntimeHandler {
    public let name = "microvm"
    let configuration: MicroVMConfiguration
    let hypervisor: any Hypervisor
    let networks: PodNetworks
    let logger: Logger
    let ends: MachineEnds
    /// Machines that boot at once. Boots that share the node's CPUs all take longer: of many, the last would run into their time-outs
    /// although nothing is wrong with them.
    private let boots: AsyncSemaphore
    let scratch: ScratchDisk
    private let eventWatch: Task<Void, Never>

    /// Prepares the handler's directories and the scratch disk's template.
    ///
    /// - Parameter resources: what releases the resources that the handler acquires.
    public init(resources: MicroVMResources, logger: Logger) async throws {
        configuration = resources.configuration
        hypervisor = resources.hypervisor
        networks = resources.networks
        ends = resources.ends
        scratch = resources.scratch
        self.logger = logger
        boots = AsyncSemaphore(permits: configuration.bootsAtOnce)
        // QEMU's user must reach its sockets and disks, and nobody may list them.
        for directory in [configuration.runDirectory, configuration.stateDirectory, scratch.directory] {
            try Directory.create(directory, mode: 0o711)
        }
        try await scratch.prepareTemplate()
        let (ends, events, hypervisor) = (ends, hypervisor.events(), hypervisor)
        eventWatch = Task { await Self.follow(events, of: hypervisor, ends) }
    }

    deinit {
        eventWatch.cancel()
    }

    /// Passes the ends of machines on. After a gap in the events, what is gone has ended.
    private static func follow(_ events: AsyncStream<DomainEvent>, of hypervisor: any Hypervisor, _ ends: MachineEnds) async {
        for await event in events {
            switch event {
            case .stopped(let uuid, let reason): ends.ended(uuid, reason)
            case .crashed(let uuid): ends.ended(uuid, "the guest crashed")
            case .connectionLost: break
            case .reconnected:
                // Asked for first: a machine that starts meanwhile is in the later list.
                let awaited = ends.awaited
                guard let domains = try? await hypervisor.domains() else { continue }
                let alive = Set(domains.map(\.uuid))
                for uuid in awaited where !alive.contains(uuid) { ends.ended(uuid, "ended while libvirt was away") }
            }
        }
    }

    public func obstacle() async -> String? {
        for (path, what) in [(configuration.kernel, "guest kernel"), (configuration.initramfs, "guest initramfs")]
        where access(path, R_OK) != 0 {
            return "\(what) \(path) cannot be read; run make guest"
        }
        do {
            _ = try await withDeadline(.seconds(5), "ask libvirt") { [hypervisor] in try await hypervisor.domains() }
            return nil
        } catch {
            return "\(error)"
        }
    }

    // MARK: Start

    public func start(_ context: SandboxContext) async throws -> any SandboxMachine {
        let (spec, ledger) = (context.spec, context.ledger)
        let names = MachineNames(id: context.id, configuration: configuration)
        try checkSocketPaths(names)
        for directory in [names.runDirectory, names.stateDirectory] {
            try await ledger.acquire(.directory, directory) { try Directory.create(directory, mode: 0o711) }
        }
        // From before the start: a guest that panics at once must not be missed.
        let (ends, uuid) = (ends, names.uuid)
        let end = Task { await ends.wait(for: uuid) }
        defer { end.cancel() }
        // The guest needs its addresses only when it is up: the machine boots while the plugins work.
        let (running, booted) = AsyncStream<Void>.makeStream()
        async let guest = bootGuest(names, context, end, booted)
        let steps = StepTimes(context.id, logger)
        guard let network = try await context.network.attached().attached else {
            throw SwiftletError(.invalidArgument, "a machine cannot have the node's network")
        }
        steps.passed("network attached")
        // Once, as soon as the machine has its tap; never when it does not start: then the guest's error says why.
        for await _ in running {
            try await context.phase("booting")
            do {
                try await context.network.join(tap: names.tap)
            } catch {
                throw SwiftletError.wrap(error, "join the machine with its network")
            }
            steps.passed("network joined")
        }
        let (process, client) = try await guest
        try Task.checkCancellation()
        let sandbox = MicroVMSandbox(
            names: names, networkNamespace: context.network.namespacePath, process: process, client: client, handler: self, ledger: ledger)
        let extent = configuration.extent(for: spec.demand)
        sandbox.size.withLock { $0 = KnownSize(MachineSize(asked: extent, actual: extent)) }
        do {
            _ = try await client.call(
                .startSandbox, sandboxRequest(names, spec, network), timeout: .seconds(20))
        } catch {
            sandbox.close()
            throw SwiftletError.wrap(error, "configure the guest")
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

    private func acquireDevices(_ names: MachineNames, _ context: SandboxContext) async throws {
        let ledger = context.ledger
        // Whatever order these are acquired in, each is released after the machine, which comes last.
        async let vsock: Void = startVsockDevice(names, ledger)
        try await ledger.acquire(.scratchDisk, names.scratchDisk) { try scratch.create(names.scratchDisk) }
        try await ledger.acquire(.tap, names.tap, TapDocument(namespace: context.network.namespacePath ?? "")) {
            try await networks.createTap(name: names.tap, uid: configuration.qemuUID, gid: configuration.qemuGID)
        }
        try await vsock
    }

    private func startVsockDevice(_ names: MachineNames, _ ledger: Ledger) async throws {
        guard configuration.vsock == .vhostUser else { return }
        do {
            try await ledger.acquire(.vsockDevice, names.hostSocket, ProcessDocument(process: nil)) {
                let process = try await VsockBackend(binary: configuration.vsockBackend).start(
                    vhostSocket: names.vhostSocket, hostSocket: names.hostSocket, cid: names.contextID, log: names.vsockLog)
                try await ledger.note(.vsockDevice, names.hostSocket, ProcessDocument(process: process))
            }
        } catch {
            throw SwiftletError.wrap(error, "start the vsock device")
        }
    }

    private func startMachine(_ names: MachineNames, _ context: SandboxContext) async throws -> ProcessIdentity {
        let (spec, ledger) = (context.spec, context.ledger)
        let machine = machineSpec(names, spec)
        do {
            let process = try await ledger.acquire(.machine, names.uuid.uuidString, ProcessDocument(process: nil)) {
                try await hypervisor.start(machine)
            }
            try await ledger.note(.machine, names.uuid.uuidString, ProcessDocument(process: process))
            if !spec.cgroupParent.isEmpty { try await placeInCgroup(ledger) }
            return process
        } catch {
            throw SwiftletError.wrap(error, "boot the machine")
        }
    }

    /// Boots the machine and waits for its agent. A machine that does not come up keeps its permit to boot until its time-out.
    ///
    /// - Parameter booted: yields when QEMU runs; finished in any case.
    private func bootGuest(
        _ names: MachineNames, _ context: SandboxContext, _ end: Task<String?, Never>, _ booted: AsyncStream<Void>.Continuation
    ) async throws -> (ProcessIdentity, AgentClient) {
        defer { booted.finish() }
        let steps = StepTimes(names.id, logger)
        // Before the processes that will be in it: it is released after them.
        try await acquireCgroup(names, context.spec, context.ledger)
        try await acquireDevices(names, context)
        steps.passed("devices acquired")
        return try await boots.withPermit {
            steps.passed("permit to boot")
            let process = try await startMachine(names, context)
            steps.passed("machine started")
            booted.yield()
            booted.finish()
            let client = try await firstAnswer(names, end)
            steps.passed("agent answered")
            return (process, client)
        }
    }

    func machineSpec(_ names: MachineNames, _ spec: SandboxSpec) -> VMSpec {
        let extent = configuration.extent(for: spec.demand)
        var machine = VMSpec(
            uuid: names.uuid, name: names.domain, memoryBytes: extent.memoryBytes, vcpus: extent.vcpus,
            kernel: configuration.kernel, initramfs: configuration.initramfs,
            kernelArguments: GuestKernelArguments.standard + GuestKernelArguments.growing + configuration.extraKernelArguments,
            consoleLog: names.console,
            vsock: configuration.vsock == .vhostUser
                ? .vhostUser(socket: names.vhostSocket, cid: names.contextID) : .kernel(cid: names.contextID),
            interface: InterfaceSpec(tap: names.tap, mac: names.bootMAC),
            disks: [DiskSpec(path: names.scratchDisk, serial: names.scratchSerial, readOnly: false, format: .raw, ephemeral: true)],
            accelerator: configuration.accelerator)
        machine.growth = configuration.growth(from: extent)
        return machine
    }

    /// The agent's first answer, or why the machine will never give one.
    private func firstAnswer(_ names: MachineNames, _ end: Task<String?, Never>) async throws -> AgentClient {
        let (limit, address) = (configuration.bootTimeout, address(names))
        do {
            return try await withThrowingTaskGroup(of: AgentClient?.self) { group in
                group.addTask { try await AgentClient.connect(to: address, deadline: .now + limit) }
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
            throw SwiftletError.wrap(error, "boot the guest\(consoleHint(names))")
        }
    }

    func address(_ names: MachineNames) -> VsockAddress {
        configuration.vsock == .vhostUser ? .unixProxy(path: names.hostSocket) : .kernel(cid: names.contextID)
    }

    /// The last line of the console, for an error message. The guest wrote it: bounded and made printable.
    private func consoleHint(_ names: MachineNames) -> String {
        guard let file = FileHandle(forReadingAtPath: names.console) else { return "" }
        defer { try? file.close() }
        let size = (try? file.seekToEnd()) ?? 0
        try? file.seek(toOffset: size > 4096 ? size - 4096 : 0)
        let text = String(decoding: (try? file.read(upToCount: 4096)) ?? Data(), as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline).filter { !$0.allSatisfy(\.isWhitespace) }
        let telling = lines.last { $0.contains("panic") || $0.contains("Failed") } ?? lines.last
        return telling.map { " (console: \(quoted(String($0))))" } ?? ""
    }

    // MARK: Reattach

    public func reattach(_ context: SandboxContext) async throws -> any SandboxMachine {
        let names = MachineNames(id: context.id, configuration: configuration)
        guard let domain = try await hypervisor.domains().first(where: { $0.uuid == names.uuid }), let process = domain.process else {
            throw SwiftletError(.notFound, "machine \(names.domain) is gone")
        }
        let client = try await AgentClient.connect(to: address(names), deadline: .now + .seconds(10))
        return MicroVMSandbox(
            names: names, networkNamespace: context.network.namespacePath, process: process, client: client, handler: self,
            ledger: context.ledger)
    }
}
