import Concurrency
import DHCP
import Errors
import Foundation
import Linux
import Logging
import Machines
import PodMachine
import QemuGuestAgent
import Runtime
import Synchronization

/// A pod's network, and the machine that is its container.
final class VMSandbox: Sandbox {
    let context: SandboxContext
    let network: AttachedNetwork
    let handler: NativeVMHandler
    let entries = Mutex<[String: Entry]>([:])

    /// What operators ask for.
    let controls = SerialQueue()
    /// Writes of records: an older one never follows a newer one.
    let writes = SerialQueue()
    /// Writes images to the pod's root disk; made when it first has to.
    let copyUser = Mutex<MachineUser?>(nil)

    private let haltsStream: AsyncStream<SandboxHalt?>
    let haltsContinuation: AsyncStream<SandboxHalt?>.Continuation
    private let closed = AsyncStream<Never>.makeStream()

    init(_ context: SandboxContext, _ network: AttachedNetwork, _ handler: NativeVMHandler, _ records: [VMRecord]) {
        self.context = context
        self.network = network
        self.handler = handler
        (haltsStream, haltsContinuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        entries.withLock { entries in
            for record in records { entries[record.container] = Entry(record: record) }
        }
    }

    var machines: MachineResources { handler.machines }
    var hypervisor: any Hypervisor { handler.machines.hypervisor }
    var logger: Logger { handler.logger }

    func names(_ container: String) -> VMNames { VMNames(pod: context.id, container: container, configuration: handler.configuration) }

    var details: [String: JSONValue] {
        var details: [String: JSONValue] = [
            "handler": .string(handler.name), "accelerator": .string(handler.configuration.accelerator.rawValue),
        ]
        if let namespace = context.network.namespacePath { details["networkNamespace"] = .string(namespace) }
        guard let entry = entries.withLock({ $0.values.first { $0.record.isStarted && $0.record.end == nil } }) else { return details }
        let names = names(entry.record.container)
        details["domain"] = .string(entry.record.machine.name)
        details["uuid"] = .string(entry.record.machine.id.description)
        details["console"] = .string(names.console)
        if let socket = entry.record.machine.display?.vncSocket { details["vnc"] = .string(socket) }
        let unkept = entry.record.unkept
        if !unkept.isEmpty { details["notKept"] = .array(unkept.map { .string($0) }) }
        if let process = entry.process { details["pid"] = .integer(Int64(process.pid)) }
        return details
    }

    // MARK: The sandbox

    /// A full disk halts the machine, which goes on by itself; or an operator.
    func halts() -> AsyncStream<SandboxHalt?> { haltsStream }

    /// The network stays until it is released: a machine's end is its container's.
    func lost() async -> SandboxLoss {
        for await _ in closed.stream {}
        return SandboxLoss("the sandbox was closed")
    }

    func requestShutdown() async {}

    func close() {
        handler.roots.cancel(pod: context.id)
        for entry in entries.withLock({ Array($0.values) }) { entry.cancel() }
        haltsContinuation.finish()
        closed.continuation.finish()
    }

    // MARK: The container's life

    func containerStates() async throws -> [String: GuestContainerState] {
        entries.withLock { $0.mapValues { $0.record.isStarted ? .started : .created } }
    }

    func startContainer(_ id: String, ledger: Ledger) async throws {
        try entries.withLock { entries in
            try requireNoOther(than: id, in: entries)
            entries[id]?.isStarting = true
        }
        defer { entries.withLock { $0[id]?.isStarting = false } }
        do {
            try await boot(id, ledger)
        } catch {
            // One that was given up and forgotten meanwhile must not run on.
            if entries.withLock({ $0[id] == nil }) { try? await hypervisor.destroy(names(id).machine, process: nil) }
            throw error
        }
    }

    private func boot(_ id: String, _ ledger: Ledger) async throws {
        try holdRoot(of: id)
        let record = try await change(id) { $0.isStarted = true }
        let (machine, names) = (record.machine, names(id))
        guard let user = machine.user else { throw SwiftletError(.dataLoss, "record of a VM: it names no user") }
        machines.fullDisks.watch(record.rootDisk ?? names.rootDisk, of: machine.id)
        machines.consoles.watch(names.console, of: machine.id, .release)
        watch(record)
        try await lendFiles(to: id, user, ledger)
        do {
            if machine.tpm != nil { try await startTPM(record, user, ledger) }
            let document = try await start(record, user, ledger)
            try await ledger.note(.machine, machine.id.uuid.uuidString, document)
            try await PodCgroup.place(ledger)
            entries.withLock { $0[id]?.process = document.process }
        } catch {
            throw SwiftletError.wrap(error, "boot the machine")
        }
        if let started = entries.withLock({ $0[id]?.record }) { watchAgent(started) }
        do {
            for (device, interface) in zip(machine.interfaces, record.interfaces) {
                try await context.network.join(tap: device.tap, with: interface)
            }
        } catch {
            throw SwiftletError.wrap(error, "join the machine with its network")
        }
        await answerAddresses(record)
        do {
            try await share(record, user, ledger)
        } catch {
            throw SwiftletError.wrap(error, "share files with the machine")
        }
        try await change(id) { $0.isUp = true }
    }

    func waitForExit(_ id: String) async throws -> ProcessExit {
        guard let entry = entries.withLock({ $0[id] }) else { throw SwiftletError(.notFound, "container \(id)") }
        if let end = entry.record.end { return end.exit }
        guard let watch = entry.watch else { throw SwiftletError(.failedPrecondition, "container \(id) was not started") }
        let end = await watch.value
        try Task.checkCancellation()
        guard let end else { throw SwiftletError(.cancelled, "the sandbox was closed") }
        return end.exit
    }

    func signal(_ id: String, _ signal: Int32, all: Bool) async throws {
        guard let entry = entries.withLock({ $0[id] }) else { throw SwiftletError(.notFound, "container \(id)") }
        guard entry.record.isStarted, entry.record.end == nil else { return }
        guard signal == SIGKILL else { return pressPowerButton(entry) }
        try await kill(entry)
    }

    private func pressPowerButton(_ entry: Entry) {
        let (button, hypervisor, machine, logger) = (handler.configuration.powerButton, hypervisor, entry.record.machine.id, logger)
        let presses = Task {
            _ = try? await button.press {
                do { try await hypervisor.shutdown(machine) } catch {
                    logger.warning("power button not pressed", metadata: ["machine": "\(machine)", "error": "\(error)"])
                }
            }
        }
        let before = entries.withLock { entries in
            let before = entries[entry.record.container]?.shutdown
            entries[entry.record.container]?.shutdown = presses
            return before
        }
        before?.cancel()
    }

    func kill(_ entry: Entry) async throws {
        let machine = entry.record.machine.id
        try await hypervisor.destroy(machine, process: entry.process)
        machines.ends.ended(machine, .destroyed)
    }

    func deleteContainer(_ id: String) async throws {
        defer { handler.roots.letGo(container: id) }
        guard let entry = entries.withLock({ $0[id] }) else { return }
        if entry.record.isStarted, entry.record.end == nil { try await kill(entry) }
        entry.cancel()
        // It may be writing the record at this moment.
        _ = await entry.watch?.value
        try await giveFilesBack(entry.record)
        machines.fullDisks.forget(entry.record.machine.id)
        machines.pauses.forget(entry.record.machine.id)
        _ = entries.withLock { $0.removeValue(forKey: id) }
        // Its disk may have been full.
        haltsContinuation.yield(nil)
        // A daemon that starts again must not take a machine that was given up for one that runs.
        let path = names(id).record
        try await OwnThread.run {
            guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
        }
    }

    /// Changes the container's record, on disk first.
    @discardableResult
    func change(_ id: String, _ change: @escaping @Sendable (inout VMRecord) -> Void) async throws -> VMRecord {
        let path = names(id).record
        return try await writes.run { [self] in
            guard var record = entries.withLock({ $0[id]?.record }) else { throw SwiftletError(.notFound, "container \(id)") }
            change(&record)
            let changed = record
            try await OwnThread.run { try changed.write(path) }
            // The machine may have ended meanwhile, which is written next.
            return entries.withLock { entries in
                guard var record = entries[id]?.record else { return changed }
                change(&record)
                entries[id]?.record = record
                return record
            }
        }
    }

    /// Says what keeps the machine from running at the moment.
    func publishHalt(of id: String) {
        // Under the lock: what is newest comes last.
        entries.withLock { entries in
            guard let entry = entries[id], entry.record.end == nil else { return }
            haltsContinuation.yield(entry.record.pausedAt.map { Self.pause(since: $0) } ?? entry.fullDisk)
        }
    }
}
