import Concurrency
import Errors
import Foundation
import Linux
import Machines
import Runtime
import Volumes

/// Where a machine's share is, and whose it is.
package struct MachineSharePlace: Sendable {
    /// Not in the machine's run directory, which is removed with all that is in it: other people's files are mounted here.
    package var directory: String
    /// Where virtiofsd listens.
    package var socket: String
    package var machine: MachineID
    /// Whom virtiofsd runs as.
    package var user: MachineUser

    package init(directory: String, socket: String, machine: MachineID, user: MachineUser) {
        self.directory = directory
        self.socket = socket
        self.machine = machine
        self.user = user
    }
}

/// What a machine sees of the node's files: made when there is first something to mount, and used by all that follows.
package actor MachineShare {
    /// By which the guest finds the device.
    package static let tag = "swiftlet"

    private let place: MachineSharePlace
    private let ledger: Ledger
    private let machines: MachineResources
    private let attempts = SingleFlight<NoKey, (PodShare, ShareNamespace)>(whenAbandoned: .finish)
    /// Once it is plugged in.
    private var plugged: (PodShare, ShareNamespace)?
    private var daemon = ProcessDocument(process: nil) {
        didSet {
            guard let process else { return }
            for waiter in waiters.values { waiter.resume(returning: process) }
            waiters = [:]
        }
    }
    /// Wait for the process to be known.
    private var waiters: [Int: CheckedContinuation<ProcessIdentity?, Never>] = [:]
    private var nextWaiter = 0

    /// The virtiofsd, once it is known.
    package var process: ProcessIdentity? { daemon.process }

    /// - Parameter ledger: of whose machine it is.
    package init(_ place: MachineSharePlace, ledger: Ledger, machines: MachineResources) {
        self.place = place
        self.ledger = ledger
        self.machines = machines
    }

    /// The share, plugged into the machine, and where its mounts are made. Joins an attempt in flight; one that failed is tried again.
    /// Returns only when the attempt has ended, even to a caller that is cancelled: the release of what the pod holds waits for its
    /// callers.
    package func ready() async throws -> (PodShare, ShareNamespace) {
        do {
            return try await attempts.run { [self] in try await acquire() }
        } catch {
            throw SwiftletError.wrap(error, "share files with the machine")
        }
    }

    private func acquire() async throws -> (PodShare, ShareNamespace) {
        if let plugged { return plugged }
        let share = PodShare(directory: place.directory)
        let device = FilesystemSpec(tag: Self.tag, socket: place.socket)
        let wasBegun = findProcess()
        if let process {
            guard process.isAlive else { throw SwiftletError(.unavailable, Self.lost(process)) }
        } else {
            try await ledger.acquire(.share, share.directory) { try await OwnThread.run { try share.create() } }
            try await start(share, wasBegun: wasBegun)
        }
        do {
            try await machines.hypervisor.attach([.filesystem(device)], to: place.machine)
        } catch {
            // An attach that comes through late leaves a device without a process behind it: the dead one stays known, and
            // the pod counts as lost.
            let late = (error as? SwiftletError)?.code == .deadlineExceeded
            let dead = daemon
            await abandon(share)
            if late { daemon = dead }
            throw error
        }
        await noteChild(share)
        guard let process else { throw SwiftletError(.unavailable, "virtiofsd of \(share.directory) was given up") }
        let ready = (share, try ShareNamespace(of: process))
        plugged = ready
        return ready
    }

    /// - Parameter wasBegun: an earlier daemon may have started one and not have lived to note it.
    private func start(_ share: PodShare, wasBegun: Bool) async throws {
        let program = machines.shareDaemon
        let (socket, user) = (place.socket, place.user)
        let started = try await ledger.acquire(.shareDaemon, share.directory, ProcessDocument(process: nil)) {
            try await OwnThread.run {
                if wasBegun { try program.stop(root: share.root, processes: []) }
                return try program.start(root: share.root, socket: socket, uid: user.uid, gid: user.gid)
            }
        }
        daemon = ProcessDocument(process: started)
        try await ledger.note(.shareDaemon, share.directory, daemon)
        // Before QEMU connects: the child that it forks then is born there.
        try await PodCgroup.place(ledger)
    }

    /// Notes the child that virtiofsd has forked for its connection, so that the release need not search for it.
    private func noteChild(_ share: PodShare) async {
        guard let process, daemon.others == nil else { return }
        let program = machines.shareDaemon
        let children = (try? await OwnThread.run { program.processes(root: share.root) })?.filter { $0 != process } ?? []
        guard !children.isEmpty, self.process == process else { return }
        daemon.others = children
        // Without it the release relies on the signal that the child gets at the end of its parent.
        try? await ledger.note(.shareDaemon, share.directory, daemon)
    }

    /// A virtiofsd takes one connection: after a failed attempt it is of no use.
    private func abandon(_ share: PodShare) async {
        let program = machines.shareDaemon
        let processes = daemon.all
        daemon = ProcessDocument(process: nil)
        try? await OwnThread.run { try program.stop(root: share.root, processes: processes) }
        try? await ledger.note(.shareDaemon, share.directory, ProcessDocument(process: nil))
    }

    /// Looks up the process of an earlier daemon, which the ledger names.
    ///
    /// - Returns: whether one was begun to be started.
    @discardableResult
    private func findProcess() -> Bool {
        if process != nil { return true }
        guard let entry = ledger.entry(.shareDaemon) else { return false }
        if let document = try? entry.decoded(ProcessDocument.self) { daemon = document }
        return true
    }

    package var processID: Int32? { process?.pid }

    /// Returns the reason when a share that was in use has lost its virtiofsd: what the guest does with its files hangs then. Nil
    /// when the caller is cancelled.
    package func lost() async -> String? {
        findProcess()
        while let process = await knownProcess() {
            guard await process.hasEnded() else { return nil }
            // One that was given up for another has ended on purpose.
            if self.process == process { return Self.lost(process) }
        }
        return nil
    }

    /// The process, as soon as there is one; nil when the caller is cancelled.
    private func knownProcess() async -> ProcessIdentity? {
        if let process { return process }
        nextWaiter += 1
        let key = nextWaiter
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { continuation.resume(returning: nil) } else { waiters[key] = continuation }
            }
        } onCancel: {
            Task { await self.endWait(key) }
        }
    }

    private func endWait(_ key: Int) { waiters.removeValue(forKey: key)?.resume(returning: nil) }

    private static func lost(_ process: ProcessIdentity) -> String { "virtiofsd \(process.pid), which serves the pod's mounts, has ended" }
}
