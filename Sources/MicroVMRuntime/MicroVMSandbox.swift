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

/// A pod's running machine, spoken to through its agent.
final class MicroVMSandbox: MachineSandbox {
    let names: MachineNames
    /// QEMU; nil under a hypervisor that has no process per machine.
    let process: ProcessIdentity?
    let link: AgentLink
    let share: MachineShare
    let handler: MicroVMHandler
    /// The pod's own.
    let ledger: Ledger
    let disks: LayerDisks
    /// Unknown after a restart of the daemon, until the machine has to grow.
    let size = Mutex(MachineSizeCache())
    let limiter: CgroupLimiter

    /// Where the pod's network namespace is bound.
    private let networkNamespace: String?

    /// - Parameter isNew: the guest gets the time with StartSandbox.
    init(
        names: MachineNames, networkNamespace: String?, process: ProcessIdentity?, client: AgentClient, mark: CrashMark,
        handler: MicroVMHandler, ledger: Ledger, isNew: Bool
    ) {
        self.names = names
        self.networkNamespace = networkNamespace
        self.process = process
        self.handler = handler
        self.ledger = ledger
        limiter = CgroupLimiter(ledger: ledger)
        disks = handler.layers.disks(of: names.machine, process: process)
        share = MachineShare(
            MachineSharePlace(directory: names.shareDirectory, socket: names.shareSocket, machine: names.machine, user: names.user),
            ledger: ledger, machines: handler.machines)
        link = AgentLink(address: handler.address(names), client: client, mark: mark, clockIsRight: isNew)
    }

    var logger: Logger { handler.logger }

    var details: [String: JSONValue] {
        var details: [String: JSONValue] = [
            "handler": .string(handler.name), "domain": .string(names.domain), "uuid": .string(names.machine.description),
            "console": .string(names.console), "vsock": .string(names.hostSocket),
            "accelerator": .string(handler.configuration.accelerator.rawValue), "fromPool": .bool(names.origin != names.id),
        ]
        if let process { details["pid"] = .integer(Int64(process.pid)) }
        if let networkNamespace { details["networkNamespace"] = .string(networkNamespace) }
        return details
    }

    func describeMachine(withXML: Bool) async throws -> MachineDescription {
        let hypervisor = handler.machines.hypervisor
        guard let machine = try await hypervisor.machine(names.machine) else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(names.id): its machine has just ended")
        }
        var description = MachineDescription(machine, console: names.console)
        if withXML { description.xml = try await hypervisor.domainXML(names.machine) }
        return description
    }

    func close() {
        handler.openedPool.withLock { $0 }?.containerCame(to: names.id)
        link.close()
        limiter.close()
    }

    func halts() -> AsyncStream<SandboxHalt?> { handler.fullDisks.halts(of: names.machine) }

    func lost() async -> SandboxLoss {
        let (ends, machine, link, share, process) = (handler.ends, names.machine, link, share, process)
        let reason = await withTaskGroup(of: String?.self) { group in
            group.addTask { await ends.wait(for: machine) }
            if let process {
                group.addTask {
                    guard await process.hasEnded() else { return nil }
                    // The hypervisor knows why, and may need a moment to report it.
                    do { try await Task.sleep(for: .seconds(2)) } catch { return nil }
                    return "QEMU (process \(process.pid)) has ended"
                }
            }
            group.addTask { await link.lostForGood() }
            group.addTask { await share.lost() }
            defer { group.cancelAll() }
            for await reason in group {
                guard let reason else { continue }
                // Ends what still tries to reconnect, so that the group can end.
                link.close()
                return reason
            }
            return "cancelled"
        }
        guard let kill = await PodCgroup.memoryKill(ledger) else { return SandboxLoss(reason) }
        return SandboxLoss("\(kill) (\(reason))", outOfMemory: true)
    }

    // MARK: Containers

    func createContainer(_ id: String, _ plan: ContainerPlan, ledger: Ledger) async throws -> ContainerUser {
        try await undisturbed { try await makeContainer(id, plan, ledger: ledger) }
    }

    /// Runs what the start of a container consists of, beside which no machine is made for the pool.
    private func undisturbed<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value {
        guard let pool = handler.openedPool.withLock({ $0 }) else { return try await body() }
        return try await pool.start(body)
    }

    private func makeContainer(_ id: String, _ plan: ContainerPlan, ledger: Ledger) async throws -> ContainerUser {
        let steps = StepTimes(id, logger, of: "container create")
        let modules = handler.configuration.modulesDisk(for: plan.spec)
        let images = plan.root.layers + plan.volumeImages.values.flatMap { $0 } + (modules.map { [$0] } ?? [])
        async let layers: Void = disks.attach(images, for: id, ledger: ledger)
        let mounts = try await guestMounts(id, plan, ledger)
        steps.passed("mounts provided")
        let request = try AgentCreateContainerRequest.with {
            $0.containerID = id
            $0.spec = try GuestSpec.container(plan)
            $0.spec.mounts = mounts
            $0.spec.shareTag = MachineShare.tag
            $0.spec.modulesSerial = modules?.serial ?? ""
        }
        // A creation that was given up: the guest has been asked to forget the container, and must not make it after that.
        try Task.checkCancellation()
        // The guest takes up the disks as they come; of a creation that fails, it forgets the container.
        async let made = link.client().call(.createContainer, request, timeout: .seconds(25))
        try await layers
        steps.passed("layers attached")
        let user = try await made
        steps.passed("guest made it")
        let answer = ContainerUser(uid: user.uid, gid: user.gid, groups: [user.gid] + user.additionalGids.filter { $0 != user.gid })
        try Self.check(answer, against: plan)
        return answer
    }

    /// NGROUPS_MAX (limits.h), and the primary group.
    private static let mostGroups = 65536 + 1

    /// The guest looks names up in the image; numbers are as they were asked for.
    static func check(_ answer: ContainerUser, against plan: ContainerPlan) throws {
        var group = plan.user.group
        if let asked = plan.spec.group { group = .id(asked) }
        for (what, asked, actual) in [("uid", plan.user.user, answer.uid), ("gid", group ?? .name(""), answer.gid)] {
            guard case .id(let id) = asked, id != actual else { continue }
            throw SwiftletError(.internal, "the guest would run the container with \(what) \(actual), not \(id) as asked")
        }
        guard answer.groups.count <= mostGroups else {
            throw SwiftletError(.internal, "the guest reports \(answer.groups.count) groups of the container's user, more than Linux has")
        }
    }

    /// Bytes of a list: a container takes some 100, and as a decoded message many times as much.
    static let listLimit = 256 << 10

    func containerStates() async throws -> [String: GuestContainerState] {
        let containers = try await link.client().call(.list, AgentListRequest(), timeout: .seconds(10), limit: Self.listLimit).containers
        return link.mark.during {
            let states = containers.map { ($0.containerID, $0.process.state == .created ? GuestContainerState.created : .started) }
            return Dictionary(states) { first, _ in first }
        }
    }

    func startContainer(_ id: String, ledger: Ledger) async throws {
        try await undisturbed {
            _ = try await link.client().call(.startContainer, .with { $0.containerID = id }, timeout: .seconds(25))
        }
        handler.openedPool.withLock { $0 }?.containerCame(to: names.id)
    }

    func waitForExit(_ id: String) async throws -> ProcessExit {
        let exit = try await repeating { try await $0.wait(containerID: id, processID: "") }
        return ProcessExit(code: Int32(clamping: exit.exitCode), outOfMemory: exit.oomKilled, exitedAt: exit.exitedAtNs)
    }

    var ports: PortEndpoint { .agent(link.address) }

    func output(of id: String) -> OutputEndpoint { .agent(link.address, container: id) }

    func execEndpoint(of id: String, for streams: SessionStreams) async throws -> ExecEndpoint { .streams(output(of: id)) }

    func signal(_ id: String, _ signal: Int32, all: Bool) async throws {
        let request = AgentSignalRequest.with {
            $0.containerID = id
            $0.signal = UInt32(signal)
            $0.all = all
        }
        _ = try await link.client().call(.signal, request, timeout: .seconds(10))
    }

    func deleteContainer(_ id: String) async throws {
        do {
            _ = try await link.client().call(.deleteContainer, .with { $0.containerID = id }, timeout: .seconds(25))
        } catch let error as SwiftletError where error.code == .notFound {
            return
        }
    }

    func statistics(openFiles: Bool, containers: Int) async throws -> SandboxFigures {
        // Longer than anybody waits: the answer of a slow guest serves the next question. A container's figures take less than 4 KiB
        // with a dozen disks.
        let answer = try await link.client().call(
            .getStats, .with { $0.openFiles = openFiles }, timeout: .seconds(20), limit: (64 << 10) + containers * (16 << 10))
        var figures = link.mark.during { SandboxFigures(answer) }
        let (disk, scratch) = (names.scratchDisk, handler.scratch)
        let taken = await OwnThread.answer { ScratchDisk.allocated(disk).subtracting(scratch.emptyBytes) }
        figures.raiseWritableLayers(to: taken)
        return figures
    }

    func requestShutdown() async {
        defer { link.close() }
        // Only what it has not written to the node's files yet is anybody's: its own disk goes with it.
        guard ledger.entry(.share) != nil else { return }
        _ = try? await link.client().call(.shutdown, AgentShutdownRequest(), timeout: .seconds(2))
    }

    /// Repeats a long call over new connections while only the connection fails.
    func repeating<Value: Sendable>(_ body: (AgentClient) async throws -> Value) async throws -> Value {
        while true {
            do {
                return try await body(try await link.client())
            } catch let error as SwiftletError where error.code == .unavailable && !link.isLost {
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }
}
