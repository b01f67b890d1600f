import AgentClient
import Concurrency
import Errors
import Foundation
import Linux
import Logging
import Machines
import PodMachine
import PodNetwork
import Runtime
import State
import Volumes

extension ResourceKind {
    static let scratchDisk = ResourceKind("scratchDisk")
    static let vsockDevice = ResourceKind("vsockDevice")
    /// The directory that the guest sees, with all that is mounted in it.
    static let share = ResourceKind("share")
    /// The virtiofsd that serves it.
    static let shareDaemon = ResourceKind("shareDaemon")
    /// One container's mounts in it.
    static let shareMounts = ResourceKind("shareMounts")
}

/// What the release of a container's mounts needs.
struct ShareMountsDocument: StoredDocument {
    static let what = "ledger document of a container's mounts"

    var share: String
    var container: String
}

/// The kinds of resources that the handler's pods take beside what every machine does, and how each is released.
public struct MicroVMResources: Sendable {
    let configuration: MicroVMConfiguration
    let machines: MachineResources
    let scratch: ScratchDisk
    let layers: LayerDiskTable

    /// - Parameter machines: of the whole node.
    public init(configuration: MicroVMConfiguration, machines: MachineResources) {
        self.configuration = configuration
        self.machines = machines
        layers = LayerDiskTable(hypervisor: machines.hypervisor)
        scratch = ScratchDisk(directory: configuration.stateDirectory + "/scratch", size: configuration.scratchSize)
    }

    /// Of the kinds of ``MachineResources`` as well: a machine's layers are forgotten with it.
    public var releasers: [ResourceReleaser] { devices + machine + share + machines.releasers }

    private var devices: [ResourceReleaser] {
        let (configuration, scratch) = (configuration, scratch)
        return [
            ResourceReleaser(.scratchDisk) { entry in try await OwnThread.run { try scratch.remove(entry.name) } },
            ResourceReleaser(.vsockDevice) { entry in
                try await VsockBackend(binary: configuration.vsockBackend, users: configuration.users)
                    .stop(hostSocket: entry.name, process: entry.process)
            },
        ]
    }

    private var machine: [ResourceReleaser] {
        let (machines, layers) = (machines, layers)
        return [
            ResourceReleaser(.machine) { entry in layers.forget(try await machines.release(machine: entry)) },
            ResourceReleaser(.layerDisks, scope: .container) { entry in try await layers.release(entry) },
        ]
    }

    private var share: [ResourceReleaser] {
        let daemon = ShareDaemon(binary: configuration.virtiofsd)
        return [
            ResourceReleaser(.share, scope: .container) { entry in
                try await OwnThread.run { try PodShare(directory: entry.name).remove() }
            },
            ResourceReleaser(.shareDaemon, scope: .container) { entry in
                let processes = try entry.decoded(ProcessDocument.self).all
                try await OwnThread.run { try daemon.stop(root: PodShare(directory: entry.name).root, processes: processes) }
            },
            ResourceReleaser(.shareMounts, scope: .container) { entry in
                let document = try entry.decoded(ShareMountsDocument.self)
                try await OwnThread.run { try PodShare(directory: document.share).remove(container: document.container) }
            },
        ]
    }
}
