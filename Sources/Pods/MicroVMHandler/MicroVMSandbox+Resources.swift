import AgentProtocol
import Errors
import MicroVM

extension MicroVMSandbox {
    func updateContainer(_ id: String, files: [String: String]) async throws {
        let request = AgentUpdateContainerRequest.with {
            $0.containerID = id
            $0.resources.unified = files
        }
        _ = try await link.client().call(.updateContainer, request, timeout: .seconds(25))
    }

    func fit(_ demand: PodDemand) async throws {
        let wanted = handler.configuration.extent(for: demand)
        let size = try await grow(to: wanted)
        var limits = handler.cgroupLimits(demand)
        // A machine that has grown keeps its memory: a lower limit would kill QEMU.
        if let memory = limits?.memory, size.actual.memoryBytes > wanted.memoryBytes {
            limits?.memory = max(memory, size.actual.memoryBytes + MicroVMConfiguration.emulatorMemory)
        }
        try await handler.limitCgroup(ledger, limits)
    }

    /// Nothing is asked of the machine as long as it has been asked for as much before. Right after a restart of the daemon libvirt
    /// is asked.
    private func grow(to wanted: MachineExtent) async throws -> MachineSize {
        if let known = size.withLock({ $0 }), known.asked.contains(wanted) { return known }
        let grown = try await handler.hypervisor.grow(names.uuid, to: wanted)
        // libvirt puts a new vCPU's thread into a control group of its own making.
        try await handler.placeInCgroup(ledger)
        let answer = try await link.client().call(.grow, .with { $0.cpus = UInt32(clamping: grown.vcpus) }, timeout: .seconds(20))
        guard answer.cpus >= UInt32(clamping: grown.vcpus) else {
            throw SwiftletError(.deadlineExceeded, "the guest uses \(answer.cpus) of \(grown.vcpus) vCPUs")
        }
        logger.info("machine grown", metadata: ["domain": "\(names.domain)", "memory": "\(grown.memoryBytes)", "vcpus": "\(grown.vcpus)"])
        return size.withLock { size in
            let asked = size?.asked ?? wanted
            let known = MachineSize(
                asked: MachineExtent(
                    memoryBytes: max(asked.memoryBytes, wanted.memoryBytes), vcpus: max(asked.vcpus, wanted.vcpus)),
                actual: grown)
            size = known
            return known
        }
    }
}

/// How large a machine is, and how large it was asked to be: an emulated one has fewer vCPUs than that.
struct MachineSize: Sendable, Equatable {
    /// The largest that was asked for.
    var asked: MachineExtent
    /// What the machine had then.
    var actual: MachineExtent
}

extension MachineExtent {
    fileprivate func contains(_ other: MachineExtent) -> Bool { memoryBytes >= other.memoryBytes && vcpus >= other.vcpus }
}
