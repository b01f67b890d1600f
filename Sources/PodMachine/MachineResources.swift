import Concurrency
import Errors
import Linux
import Logging
import Machines
import PodNetwork
import Runtime
import Volumes

/// The node's machines, as all handlers that run pods in machines share them: who may run as whom, which machines have ended, which are
/// stopped by a full disk; and how what a machine takes is released, also for pods of a daemon that ran with a handler which this one
/// does not have.
public final class MachineResources: Sendable {
    package let hypervisor: any Hypervisor
    package let networks: PodNetworks
    package let ends = MachineEnds()
    /// That guests have reset their machines, which boot again.
    package let reboots = MachineReports<Void>()
    package let users: PodUsers
    package let consoles: ConsoleLogs
    package let fullDisks: FullDisks
    package let pauses = MachinePauses()
    package let roots = PersistentRoots()
    package let shareDaemon: ShareDaemon
    package let tpmEmulator: TPMEmulator
    package let logger: Logger
    private let eventWatch: Task<Void, Never>

    /// - Parameters:
    ///   - users: whom the pods' machines run as: an id each.
    ///   - virtiofsd: QEMU's, where Debian has it.
    ///   - swtpm: likewise.
    public init(
        hypervisor: any Hypervisor, networks: PodNetworks, users: UserRange, virtiofsd: String = "/usr/lib/qemu/virtiofsd",
        swtpm: String = "/usr/bin/swtpm", logger: Logger
    ) {
        tpmEmulator = TPMEmulator(program: swtpm)
        shareDaemon = ShareDaemon(binary: virtiofsd)
        self.hypervisor = hypervisor
        self.networks = networks
        self.users = PodUsers(users)
        self.logger = logger
        consoles = ConsoleLogs(logger: logger)
        let fullDisks = FullDisks(hypervisor: hypervisor, logger: logger)
        self.fullDisks = fullDisks
        let (ends, reboots, pauses, events) = (ends, reboots, pauses, hypervisor.events())
        eventWatch = Task { await Self.follow(events, of: hypervisor, ends, reboots, fullDisks, pauses) }
    }

    deinit { eventWatch.cancel() }

    /// Passes the ends, reboots, stops and pauses of machines on. After a gap in the events, what is gone has ended.
    private static func follow(
        _ events: AsyncStream<MachineEvent>, of hypervisor: any Hypervisor, _ ends: MachineEnds, _ reboots: MachineReports<Void>,
        _ fullDisks: FullDisks, _ pauses: MachinePauses
    ) async {
        var resync: Task<Void, Never>?
        defer { resync?.cancel() }
        for await event in events {
            switch event {
            case .stopped(let id, let end): ends.ended(id, end)
            case .rebooted(let id): reboots.report((), of: id)
            case .pauseChanged(let id): pauses.changed(id)
            case .diskFull(let id, let path): fullDisks.stopped(id, at: path)
            case .connectionLost: resync?.cancel()
            case .reconnected:
                resync?.cancel()
                resync = Task {
                    await Self.findMissed(hypervisor, ends, fullDisks)
                    pauses.changed()
                }
            }
        }
    }

    /// Reports the ends and stops that nobody has seen. Asks again until there is an answer, or the caller is cancelled.
    private static func findMissed(_ hypervisor: any Hypervisor, _ ends: MachineEnds, _ fullDisks: FullDisks) async {
        var pause = Duration.milliseconds(100)
        while !Task.isCancelled {
            // Asked for first: a machine that starts meanwhile is in the later list.
            let awaited = ends.awaited
            if let machines = try? await hypervisor.machines() {
                let alive = Set(machines.map(\.id))
                for id in awaited where !alive.contains(id) { ends.ended(id, .unseen) }
                for machine in machines where machine.state == .diskFull { fullDisks.stopped(machine.id) }
                return
            }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, .seconds(5))
        }
    }

    // MARK: Release

    public var releasers: [ResourceReleaser] { machine + share }

    private var machine: [ResourceReleaser] {
        let (networks, ids, emulator) = (networks, users.range, tpmEmulator)
        return [
            ResourceReleaser(.directory) { entry in try await OwnThread.run { try Directory.remove(entry.name) } },
            ResourceReleaser(.user) { entry in try await OwnThread.run { try PodUsers.release(entry.name) } },
            ResourceReleaser(.userProcesses) { entry in try await OwnThread.run { try PodUsers.release(entry.name) } },
            ResourceReleaser(.tpm) { entry in try await emulator.stop(socket: entry.name, process: entry.process, users: ids) },
            ResourceReleaser(.tap, beginsAtOnce: true) { entry in
                try await networks.deleteTap(name: entry.name, namespacePath: entry.decoded(TapDocument.self).namespace)
            },
            ResourceReleaser(.cgroup) { entry in
                let cgroup = try entry.decoded(ProcessCgroup.self)
                try await OwnThread.run { try cgroup.remove() }
            },
            ResourceReleaser(.machine) { [self] entry in _ = try await release(machine: entry) },
        ]
    }

    private var share: [ResourceReleaser] {
        let (daemon, roots) = (shareDaemon, roots)
        return [
            ResourceReleaser(.share, scope: .container) { entry in
                try await OwnThread.run { try PodShare(directory: entry.name).remove() }
            },
            ResourceReleaser(.shareDaemon, scope: .container) { entry in
                let processes = try entry.decoded(ProcessDocument.self).all
                try await OwnThread.run { try daemon.stop(root: PodShare(directory: entry.name).root, processes: processes) }
            },
            ResourceReleaser(.volumeFile, scope: .container) { entry in
                let document = try entry.decoded(LentFileDocument.self)
                // One that writes to it has ended before: it would make it anew.
                if document.partial != nil { await roots.end(pod: entry.owner) }
                try await OwnThread.run {
                    try document.removePartial()
                    try VolumeFile.giveBack(entry.name, from: document.user, to: document.owner)
                }
            },
            ResourceReleaser(.rootCopy, scope: .container) { entry in await roots.end(pod: entry.owner) },
            ResourceReleaser(.rootDisk, scope: .container) { [hypervisor] entry in
                let document = try entry.decoded(RootDiskDocument.self)
                if let machine = MachineID(document.machine), try await hypervisor.machine(machine) != nil {
                    throw SwiftletError(.unavailable, "machine \(machine), whose root disk it is, has not ended")
                }
                roots.letGo(container: entry.owner)
            },
            ResourceReleaser(.shareMounts, scope: .container) { entry in
                let document = try entry.decoded(ShareMountsDocument.self)
                try await OwnThread.run { try PodShare(directory: document.share).remove(container: document.container) }
            },
        ]
    }

    /// Ends the machine that the entry names.
    ///
    /// - Returns: which one it was.
    package func release(machine entry: LedgerEntry) async throws -> MachineID {
        guard let machine = MachineID(entry.name) else {
            throw SwiftletError(.dataLoss, "the ledger names machine \(entry.name), which is no UUID")
        }
        let document = try? entry.decoded(MachineDocument.self)
        // The process is the way out when libvirt cannot help.
        try await hypervisor.destroy(machine, process: entry.process, atOnce: document?.keepsNothing == true)
        ends.ended(machine, .destroyed)
        if let name = document?.domain { await hypervisor.removeLog(ofMachineNamed: name) }
        consoles.forget(machine)
        fullDisks.forget(machine)
        pauses.forget(machine)
        return machine
    }

    /// Makes a tap where machines start, for its owner's QEMU.
    ///
    /// - Parameter namespace: the pod's network namespace, which it is moved into later.
    package func acquireTap(_ name: String, for user: MachineUser, namespace: String?, _ ledger: Ledger) async throws {
        try await ledger.acquire(.tap, name, TapDocument(namespace: namespace ?? "")) {
            try await networks.createTap(name: name, uid: user.uid, gid: user.gid)
        }
    }
}
