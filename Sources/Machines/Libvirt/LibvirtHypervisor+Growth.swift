import CLibvirt
import Errors

extension LibvirtHypervisor {
    public func grow(_ id: MachineID, to extent: MachineExtent) async throws -> MachineExtent {
        let step = "grow machine \(id)"
        return try await inTurn(id) { [self] in
            let memory = try await growMemory(id, to: extent.memoryBytes, step)
            let vcpus = try await addVCPUs(id, to: extent.vcpus, step)
            return MachineExtent(memoryBytes: memory, vcpus: vcpus)
        }
    }

    // MARK: Memory

    /// How long a guest may take to use what was plugged in.
    private static let patience: Duration = .seconds(15)

    private func growMemory(_ id: MachineID, to wanted: UInt64, _ step: String) async throws -> UInt64 {
        let before = try await memory(id, step)
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
        try await setMemory(id, before.device, room: room, request, step)
        let deadline = ContinuousClock.now + Self.patience
        while true {
            let now = try await memory(id, step)
            if let device = now.device, device.current >= request { return now.base + device.current }
            guard ContinuousClock.now < deadline else {
                // What the guest did not take must not count as there the next time.
                try? await setMemory(id, now.device, room: room, now.device?.current ?? 0, step)
                throw SwiftletError(
                    .deadlineExceeded, "\(step): the guest took \(now.device?.current ?? 0) of \(request) bytes of memory plugged in")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func memory(_ id: MachineID, _ step: String) async throws -> DomainMemory {
        try await with(id, step) { domain in DomainMemory(try domain.description()) }
    }

    private func setMemory(_ id: MachineID, _ device: DomainMemory.Device?, room: UInt64, _ request: UInt64, _ step: String) async throws {
        try await with(id, step) { domain in
            let result: Int32
            if let device {
                result = virDomainUpdateDeviceFlags(domain.pointer, device.requesting(request).rendered(), VIR_DOMAIN_AFFECT_LIVE.rawValue)
            } else {
                let xml = MemoryDevice.tag(size: room, requested: request).rendered()
                result = virDomainAttachDeviceFlags(domain.pointer, xml, VIR_DOMAIN_AFFECT_LIVE.rawValue)
            }
            guard result == 0 else { throw SwiftletError.libvirt("\(step): plug in memory") }
        }
    }

    // MARK: Balloon

    public func balloon(_ id: MachineID, to bytes: UInt64) async throws {
        let step = "set the memory of machine \(id) to \(bytes) bytes"
        try await inTurn(id) { [self] in
            let before = try await inUse(id, step)
            try await setBalloon(id, bytes, step)
            let deadline = ContinuousClock.now + Self.patience
            while true {
                let now = try await inUse(id, step)
                if now <= bytes || before <= bytes { return }
                guard ContinuousClock.now < deadline else {
                    try? await setBalloon(id, before, step)
                    throw SwiftletError(.deadlineExceeded, "\(step): the guest keeps \(now)")
                }
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }

    /// Bytes that the balloon leaves the guest.
    private func inUse(_ id: MachineID, _ step: String) async throws -> UInt64 {
        try await with(id, step) { domain in
            var information = virDomainInfo()
            guard virDomainGetInfo(domain.pointer, &information) == 0 else { throw SwiftletError.libvirt(step) }
            return UInt64(information.memory) << 10
        }
    }

    private func setBalloon(_ id: MachineID, _ bytes: UInt64, _ step: String) async throws {
        try await with(id, step) { domain in
            guard virDomainSetMemoryFlags(domain.pointer, UInt(bytes >> 10), VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else {
                throw SwiftletError.libvirt(step)
            }
        }
    }

    // MARK: vCPUs

    /// Only ever adds, and only under KVM: QEMU 7.2's emulator corrupts its heap when a vCPU is taken away, and may crash when one
    /// is added.
    private func addVCPUs(_ id: MachineID, to wanted: Int, _ step: String) async throws -> Int {
        try await with(id, step) { domain in
            let have = virDomainGetVcpusFlags(domain.pointer, VIR_DOMAIN_VCPU_LIVE.rawValue)
            guard have > 0 else { throw SwiftletError.libvirt("\(step): ask for its vCPUs") }
            guard wanted > Int(have), try !DomainPointer.isEmulated(domain.description()) else { return Int(have) }
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

    /// Runs a call on the running machine.
    func with<Value: Sendable>(
        _ id: MachineID, _ step: String, timeout: Duration? = nil, _ body: @escaping @Sendable (DomainPointer) throws -> Value
    ) async throws -> Value {
        try await perform(step, timeout: timeout ?? configuration.startTimeout) { connection, call in
            try DomainPointer.withDomain(id, on: connection) { domain in
                guard let domain, domain.isActive, !call.isAbandoned else {
                    throw SwiftletError(.notFound, "\(step): it does not run")
                }
                return try body(domain)
            }
        }
    }
}
