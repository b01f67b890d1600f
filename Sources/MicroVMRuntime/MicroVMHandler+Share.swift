import Concurrency
import Errors
import Foundation
import Linux
import Machines
import Runtime
import Volumes

/// The share of one pod: made when the first container has something to mount from the node, and used by all later ones.
actor SandboxShare {
    /// By which the guest finds the device.
    static let tag = "swiftlet"

    private let names: MachineNames
    private let ledger: Ledger
    private let handler: MicroVMHandler
    private let attempts = SingleFlight<NoKey, PodShare>(whenAbandoned: .finish)
    /// Once it is plugged in.
    private var plugged: PodShare?
    private var process: ProcessIdentity?

    init(names: MachineNames, ledger: Ledger, handler: MicroVMHandler) {
        self.names = names
        self.ledger = ledger
        self.handler = handler
    }

    /// The share, plugged into the machine. Joins an attempt in flight; one that failed is tried again. Returns only when the attempt
    /// has ended, even to a caller that is cancelled: the release of what the pod holds waits for its callers.
    func ready() async throws -> PodShare {
        do {
            return try await attempts.run { [self] in try await acquire() }
        } catch {
            throw SwiftletError.wrap(error, "share files with the machine")
        }
    }

    private func acquire() async throws -> PodShare {
        if let plugged { return plugged }
        let share = PodShare(directory: names.shareDirectory)
        let device = FilesystemSpec(tag: Self.tag, socket: names.shareSocket)
        findProcess()
        if let process {
            guard process.isAlive else { throw SwiftletError(.unavailable, Self.lost(process)) }
        } else {
            try await ledger.acquire(.share, share.directory) { try await OwnThread.run { try share.create() } }
            try await start(share)
        }
        do {
            try await handler.hypervisor.attachFilesystem(device, to: names.uuid)
        } catch {
            // An attach that comes through late leaves a device without a process behind it: the dead one stays known, and
            // the pod counts as lost.
            let late = (error as? SwiftletError)?.code == .deadlineExceeded
            let dead = process
            await abandon(share)
            if late { process = dead }
            throw error
        }
        plugged = share
        return share
    }

    private func start(_ share: PodShare) async throws {
        let daemon = ShareDaemon(binary: handler.configuration.virtiofsd)
        let (socket, uid, gid) = (names.shareSocket, handler.configuration.qemuUID, handler.configuration.qemuGID)
        let started = try await ledger.acquire(.shareDaemon, share.directory, ProcessDocument(process: nil)) {
            try await OwnThread.run {
                // One that an earlier daemon started and did not live to note.
                try daemon.stop(root: share.root, process: nil)
                return try daemon.start(root: share.root, socket: socket, uid: uid, gid: gid)
            }
        }
        process = started
        try await ledger.note(.shareDaemon, share.directory, ProcessDocument(process: started))
        // Before QEMU connects: the child that it forks then is born there.
        try await handler.placeInCgroup(ledger)
    }

    /// A virtiofsd takes one connection: after a failed attempt it is of no use.
    private func abandon(_ share: PodShare) async {
        let daemon = ShareDaemon(binary: handler.configuration.virtiofsd)
        let process = process
        self.process = nil
        try? await OwnThread.run { try daemon.stop(root: share.root, process: process) }
        try? await ledger.note(.shareDaemon, share.directory, ProcessDocument(process: nil))
    }

    /// The process of an earlier daemon, which the ledger names.
    private func findProcess() {
        if process == nil { process = ledger.entry(.shareDaemon)?.process }
    }

    var processID: Int32? { process?.pid }

    /// Answers when a share that was in use has lost its virtiofsd: what the guest does with its files hangs then.
    func lost() async -> String? {
        findProcess()
        while !Task.isCancelled {
            if let process, !process.isAlive { return Self.lost(process) }
            try? await Task.sleep(for: .seconds(1))
        }
        return nil
    }

    private static func lost(_ process: ProcessIdentity) -> String { "virtiofsd \(process.pid), which serves the pod's mounts, has ended" }
}
