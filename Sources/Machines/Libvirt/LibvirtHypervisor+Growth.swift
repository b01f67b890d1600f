import CLibvirt
import Errors
import FoundationEssentials

extension LibvirtHypervisor {
    public func grow(_ uuid: UUID, to extent: MachineExtent) async throws -> MachineExtent {
        let step = "grow machine \(uuid.uuidString.lowercased())"
        return try await inTurn(uuid) { [self] in
            let memory = try await growMemory(uuid, to: extent.memoryBytes, step)
            let vcpus = try await addVCPUs(uuid, to: extent.vcpus, step)
            return MachineExtent(memoryBytes: memory, vcpus: vcpus)
        }
    }

    // MARK: Memory

    /// How long a guest may take to use what was plugged in.
    private static let patience: Duration = .seconds(15)

    private func growMemory(_ uuid: UUID, to wanted: UInt64, _ step: String) async throws -> UInt64 {
        let before = try await memory(uuid, step)
        let have = before.base + (before.device?.requested ?? 0)
        guard wanted > have else { return have }
        let room = before.maximum > before.base ? (before.maximum - before.base) / MemoryDevice.step * MemoryDevice.step : 0
        let rounded = (wanted - before.base + MemoryDevice.step - 1) / MemoryDevice.step * MemoryDevice.step
        // The most a machine can have need not be whole steps.
        let request = min(rounded, room)
        guard room > 0, wanted - before.base < room + MemoryDevice.step else {
            throw SwiftletError(
                .resourceExhausted, "\(step): \(wanted) bytes of memory are more than the \(before.base + room) that it can have")
        }
        try await setMemory(uuid, before.device, room: room, request, step)
        let deadline = ContinuousClock.now + Self.patience
        while true {
            let now = try await memory(uuid, step)
            if let device = now.device, device.current >= request { return now.base + device.current }
            guard ContinuousClock.now < deadline else {
                // What the guest did not take must not count as there the next time.
                try? await setMemory(uuid, now.device, room: room, now.device?.current ?? 0, step)
                throw SwiftletError(
                    .deadlineExceeded, "\(step): the guest took \(now.device?.current ?? 0) of \(request) bytes of memory plugged in")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func memory(_ uuid: UUID, _ step: String) async throws -> DomainMemory {
        try await with(uuid, step) { domain in DomainMemory(liveXML: try domain.liveXML()) }
    }

    private func setMemory(_ uuid: UUID, _ device: DomainMemory.Device?, room: UInt64, _ request: UInt64, _ step: String) async throws {
        try await with(uuid, step) { domain in
            let result: Int32
            if let device {
                result = virDomainUpdateDeviceFlags(domain.pointer, device.requesting(request), VIR_DOMAIN_AFFECT_LIVE.rawValue)
            } else {
                let xml = MemoryDevice.tag(size: room, requested: request).rendered()
                result = virDomainAttachDeviceFlags(domain.pointer, xml, VIR_DOMAIN_AFFECT_LIVE.rawValue)
            }
            guard result == 0 else { throw SwiftletError.libvirt("\(step): plug in memory") }
        }
    }

    // MARK: vCPUs

    /// Only ever adds, and only under KVM: QEMU 7.2's emulator corrupts its heap when a vCPU is taken away, and may crash when one
    /// is added.
    private func addVCPUs(_ uuid: UUID, to wanted: Int, _ step: String) async throws -> Int {
        try await with(uuid, step) { domain in
            let have = virDomainGetVcpusFlags(domain.pointer, VIR_DOMAIN_VCPU_LIVE.rawValue)
            guard have > 0 else { throw SwiftletError.libvirt("\(step): ask for its vCPUs") }
            guard wanted > Int(have), try !domain.isEmulated else { return Int(have) }
            let most = virDomainGetVcpusFlags(domain.pointer, VIR_DOMAIN_VCPU_LIVE.rawValue | VIR_DOMAIN_VCPU_MAXIMUM.rawValue)
            guard wanted <= Int(most) else {
                throw SwiftletError(.resourceExhausted, "\(step): \(wanted) vCPUs are more than the \(most) that it can have")
            }
            guard virDomainSetVcpusFlags(domain.pointer, UInt32(wanted), VIR_DOMAIN_VCPU_LIVE.rawValue) == 0 else {
                throw SwiftletError.libvirt("\(step): add vCPUs")
            }
            return wanted
        }
    }

    private func with<Value: Sendable>(
        _ uuid: UUID, _ step: String, _ body: @escaping @Sendable (DomainPointer) throws -> Value
    ) async throws -> Value {
        try await perform(step, timeout: configuration.startTimeout) { connection, call in
            try DomainPointer.withDomain(uuid, on: connection) { domain in
                guard let domain, domain.isActive, !call.isAbandoned else {
                    throw SwiftletError(.notFound, "\(step): it does not run")
                }
                return try body(domain)
            }
        }
    }
}
