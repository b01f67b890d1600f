import AgentClient
import Concurrency
import Errors
import Foundation
import Linux
import Logging
import Machines
import PodNetwork
import Runtime
import State
import Volumes

extension ResourceKind {
    /// A directory of the pod's own.
    static let directory = ResourceKind("directory")
    static let tap = ResourceKind("tap")
    static let scratchDisk = ResourceKind("scratchDisk")
    static let vsockDevice = ResourceKind("vsockDevice")
    static let machine = ResourceKind("machine")
    /// The control group of the pod's processes on the node.
    static let cgroup = ResourceKind("cgroup")
    /// The directory that the guest sees, with all that is mounted in it.
    static let share = ResourceKind("share")
    /// The virtiofsd that serves it.
    static let shareDaemon = ResourceKind("shareDaemon")
    /// One container's mounts in it.
    static let shareMounts = ResourceKind("shareMounts")
}

/// What the release of a tap needs.
struct TapDocument: StoredDocument {
    static let what = "ledger document of a tap"

    /// The network namespace that it is moved into.
    var namespace: String
}

extension ProcessCgroup: StoredDocument {
    public static var what: String { "ledger document of a control group" }
}

/// What the release of a container's mounts needs.
struct ShareMountsDocument: StoredDocument {
    static let what = "ledger document of a container's mounts"

    var share: String
    var container: String
}

/// The kinds of resources that machines take, and how each is released: also for pods of a daemon that ran with a handler which this one
/// does not have.
public struct MicroVMResources: Sendable {
    let configuration: MicroVMConfiguration
    let hypervisor: any Hypervisor
    let networks: PodNetworks
    let ends = MachineEnds()
    let scratch: ScratchDisk
    let users: PodUsers
    let layers: LayerDiskTable
    let consoles: ConsoleLogs
    let fullDisks: FullDisks

    public init(configuration: MicroVMConfiguration, hypervisor: any Hypervisor, networks: PodNetworks, logger: Logger) {
        self.configuration = configuration
        self.hypervisor = hypervisor
        self.networks = networks
        layers = LayerDiskTable(hypervisor: hypervisor)
        consoles = ConsoleLogs(logger: logger)
        fullDisks = FullDisks(hypervisor: hypervisor, logger: logger)
        scratch = ScratchDisk(directory: configuration.stateDirectory + "/scratch", size: configuration.scratchSize)
        users = PodUsers(configuration.users)
    }

    public var releasers: [ResourceReleaser] { devices + machine + share }

    private var devices: [ResourceReleaser] {
        let (configuration, networks, scratch) = (configuration, networks, scratch)
        return [
            ResourceReleaser(.directory) { entry in try await OwnThread.run { try Directory.remove(entry.name) } },
            ResourceReleaser(.user) { entry in try await OwnThread.run { try PodUsers.release(entry.name) } },
            ResourceReleaser(.scratchDisk) { entry in try await OwnThread.run { try scratch.remove(entry.name) } },
            ResourceReleaser(.tap) { entry in
                try await networks.deleteTap(name: entry.name, namespacePath: entry.decoded(TapDocument.self).namespace)
            },
            ResourceReleaser(.vsockDevice) { entry in
                try await VsockBackend(binary: configuration.vsockBackend, users: configuration.users)
                    .stop(hostSocket: entry.name, process: entry.process)
            },
            ResourceReleaser(.cgroup) { entry in
                let cgroup = try entry.decoded(ProcessCgroup.self)
                try await OwnThread.run { try cgroup.remove() }
            },
        ]
    }

    private var machine: [ResourceReleaser] {
        let (hypervisor, ends, layers, consoles, fullDisks) = (hypervisor, ends, layers, consoles, fullDisks)
        return [
            ResourceReleaser(.machine) { entry in
                guard let machine = MachineID(entry.name) else {
                    throw SwiftletError(.dataLoss, "the ledger names machine \(entry.name), which is no UUID")
                }
                // The process is the way out when libvirt cannot help.
                try await hypervisor.destroy(machine, process: entry.process)
                ends.ended(machine, "destroyed")
                layers.forget(machine)
                consoles.forget(machine)
                fullDisks.forget(machine)
            },
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
