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
        try await grow(to: handler.configuration.extent(for: demand))
        var limits = handler.cgroupLimits(demand)
        // A machine that has grown keeps its memory: a lower limit would kill QEMU.
        let (have, needed) = (extents.withLock { $0 }, handler.configuration.extent(for: demand))
        if let memory = limits?.memory, let have, have.memoryBytes > needed.memoryBytes {
            limits?.memory = max(memory, have.memoryBytes + MicroVMConfiguration.emulatorMemory)
        }
        try await handler.limitCgroup(ledger, limits)
    }

    /// Nothing is asked of the machine as long as it is known to be large enough. Right after a restart of the daemon
    /// libvirt is asked.
    private func grow(to wanted: MachineExtent) async throws {
        var extent = wanted
        // QEMU 7.2's emulator may crash when a vCPU is added: an emulated machine keeps those that it was started with.
        if handler.configuration.accelerator == .tcg { extent.vcpus = 1 }
        if let known = extents.withLock({ $0 }), known.memoryBytes >= extent.memoryBytes, known.vcpus >= extent.vcpus { return }
        let grown = try await handler.hypervisor.grow(names.uuid, to: extent)
        // libvirt puts a new vCPU's thread into a control group of its own making.
        try await handler.placeInCgroup(ledger)
        let answer = try await link.client().call(.grow, .with { $0.cpus = UInt32(clamping: grown.vcpus) }, timeout: .seconds(20))
        guard answer.cpus >= UInt32(clamping: extent.vcpus) else {
            throw SwiftletError(.deadlineExceeded, "the guest uses \(answer.cpus) of \(extent.vcpus) vCPUs")
        }
        extents.withLock { known in
            known = MachineExtent(
                memoryBytes: max(known?.memoryBytes ?? 0, grown.memoryBytes), vcpus: max(known?.vcpus ?? 0, grown.vcpus))
        }
        logger.info("machine grown", metadata: ["domain": "\(names.domain)", "memory": "\(grown.memoryBytes)", "vcpus": "\(grown.vcpus)"])
    }
}
