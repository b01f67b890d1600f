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
}

/// The kinds of resources that the handler's pods take beside what every machine does, and how each is released.
public struct MicroVMResources: Sendable {
    public let configuration: MicroVMConfiguration
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
    public var releasers: [ResourceReleaser] { devices + machine + machines.releasers }

    private var devices: [ResourceReleaser] {
        let (configuration, scratch) = (configuration, scratch)
        return [
            ResourceReleaser(.scratchDisk) { entry in try await OwnThread.run { try scratch.remove(entry.name) } },
            configuration.vsockDevices.releaser,
        ]
    }

    private var machine: [ResourceReleaser] {
        let (machines, layers) = (machines, layers)
        return [
            ResourceReleaser(.machine) { entry in layers.forget(try await machines.release(machine: entry)) },
            ResourceReleaser(.layerDisks, scope: .container) { entry in try await layers.release(entry) },
        ]
    }
}
