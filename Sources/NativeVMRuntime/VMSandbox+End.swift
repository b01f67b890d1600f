import Concurrency
import Foundation
import Linux
import Machines
import PodMachine
import Runtime

/// The machine's end, whoever sees it.
extension VMSandbox {
    /// Looks for the machine of an earlier daemon, which may have ended since.
    ///
    /// - Throws: when the hypervisor cannot say.
    func find(_ record: VMRecord) async throws {
        if let root = record.root { try handler.roots.hold(root, pod: context.id, container: record.container) }
        guard let machine = try await hypervisor.machine(record.machine.id) else {
            _ = await ended(record.container, VMEnd(await Self.seen(.unseen, of: record.machine, machines)))
            return
        }
        guard record.isUp != false else {
            // It may have neither network nor files, and nobody was told that it runs.
            try await hypervisor.destroy(record.machine.id, process: machine.process)
            let reason = "the machine was ended: swiftletd was restarted while it was being started"
            _ = await ended(record.container, VMEnd(code: 137, message: reason, at: WallClock.now()))
            return
        }
        entries.withLock { $0[record.container]?.process = machine.process }
        machines.fullDisks.watch(record.rootDisk ?? names(record.container).rootDisk, of: machine.id)
        machines.consoles.watch(names(record.container).console, of: machine.id, .release)
        await findPaused(record, machine.state)
        watch(record)
        try await watchDevices(of: record)
        watchAgent(record)
        await answerAddresses(record)
        if machine.state == .diskFull { machines.fullDisks.stopped(machine.id) }
    }

    /// Waits for the machine's end from now on.
    func watch(_ record: VMRecord) {
        let id = record.container
        let watch = Task { [self] in
            let process: @Sendable () -> ProcessIdentity? = { [weak self] in self?.entries.withLock { $0[id]?.process } }
            guard let end = await Self.end(of: record.machine, machines, process: process) else { return nil as VMEnd? }
            return await ended(id, end)
        }
        let volumes = watchVolumes(record)
        entries.withLock { entries in
            entries[id]?.watch = watch
            entries[id]?.volumeWatch = volumes
        }
        let halts = machines.fullDisks.halts(of: record.machine.id)
        let pauses = machines.pauses.changes(of: record.machine.id)
        Task { [weak self] in
            for await _ in pauses { await self?.pauseChanged(id) }
        }
        Task { [weak self] in
            for await halt in halts {
                self?.entries.withLock { $0[id]?.fullDisk = halt }
                self?.publishHalt(of: id)
            }
        }
    }

    private func ended(_ id: String, _ end: VMEnd) async -> VMEnd {
        var end = end
        if end.isKill, let loss = entries.withLock({ $0[id]?.loss }) { end.message = "\(loss): the machine was ended" }
        // What else has died of its group for want of memory does not make a guest's power-off a kill.
        if end.isKill, let cgroup = entries.withLock({ $0[id]?.record.cgroup }), let kill = await PodCgroup.memoryKill(in: cgroup) {
            end = VMEnd(code: 137, message: kill, outOfMemory: true, at: end.at)
        }
        let final = end
        let entry = entries.withLock { entries in
            entries[id]?.record.end = final
            defer {
                entries[id]?.responders = []
                entries[id]?.devices = []
                entries[id]?.ownAgent = nil
            }
            return entries[id]
        }
        entry?.stopServing()
        handler.roots.letGo(container: id)
        guard let record = entry?.record else { return final }
        machines.fullDisks.forget(record.machine.id)
        machines.pauses.forget(record.machine.id)
        _ = entries.withLock { _ in haltsContinuation.yield(nil) }
        do {
            try await giveFilesBack(record)
        } catch {
            // What is released with the container is tried again then.
            logger.warning("files of a volume not given back", metadata: ["container": "\(id)", "error": "\(error)"])
        }
        do {
            // The next container of the pod joins its own.
            for device in record.machine.interfaces {
                try await machines.networks.deleteTap(name: device.tap, namespacePath: context.network.namespacePath ?? "")
            }
            let path = names(id).record
            try await writes.run { [self] in
                guard let latest = entries.withLock({ $0[id]?.record }) else { return }
                try await OwnThread.run { try latest.write(path) }
            }
        } catch {
            // A daemon that starts again finds the machine gone, and libvirt's log says how.
            logger.warning("end of a machine not noted", metadata: ["container": "\(id)", "error": "\(error)"])
        }
        return final
    }
}
