import CLibvirt
import Concurrency
import Errors
import FoundationEssentials

extension LibvirtHypervisor {
    @discardableResult
    public func attach(_ devices: [MachineDevice], to id: MachineID) async throws -> [DeviceID] {
        for device in devices {
            try device.validate()
            try Self.requirePluggable(device.id)
            if case .disk(let disk) = device, disk.bus == .sata {
                throw SwiftletError(.invalidArgument, "\(device.id): a machine has its SATA disks from its start or not at all")
            }
        }
        guard !devices.isEmpty else { return [] }
        let step = "attach \(Self.names(devices.map(\.id))), machine \(id)"
        return try await change(id, step, calls: devices.count) { [self] domain, attached, call in
            var added: [DeviceID] = []
            for device in devices {
                // A caller that has given up releases what the devices stand on.
                guard !call.isAbandoned else { throw SwiftletError(.deadlineExceeded, step) }
                if try attach(device, to: domain, &attached, step) { added.append(device.id) }
            }
            return added
        }
    }

    /// - Returns: whether it was not there before.
    private func attach(
        _ device: MachineDevice, to domain: DomainPointer, _ attached: inout MachineAttachments, _ step: String
    ) throws -> Bool {
        if case .vsock(.vhostUser(let socket, _)) = device { return try domain.plugVsock(socket: socket, step) }
        guard !attached.contains(device.id) else { return false }
        if case .disk(let disk) = device {
            guard let unit = attached.freeUnit(on: disk.bus) else {
                let most = MachineSpec.mostDisks(on: disk.bus)
                throw SwiftletError(.resourceExhausted, "\(step): the machine has \(most) \(disk.bus) disks already")
            }
            try domain.attach(Disks.tag(disk, unit: unit), "\(step): \(device.id)")
            attached.add(disk, unit: unit)
        } else if let tag = device.tag {
            if case .interface = device {
                // Where taps are that machines are given. Used by one thread at a time: this one waits.
                nonisolated(unsafe) let domain = domain
                try inMachineNamespace { try domain.attach(tag, "\(step): \(device.id)") }
            } else {
                try domain.attach(tag, "\(step): \(device.id)")
            }
            attached.add(device.id, tag)
        }
        return true
    }

    public func detach(_ devices: [DeviceID], from id: MachineID) async throws {
        for device in devices {
            try device.validate()
            try Self.requirePluggable(device)
        }
        guard !devices.isEmpty else { return }
        let step = "detach \(Self.names(devices)), machine \(id)"
        let asked = try await change(id, step, calls: devices.count) { domain, attached, call in
            var asked: [DeviceID] = []
            for device in devices {
                guard !call.isAbandoned else { throw SwiftletError(.deadlineExceeded, step) }
                var goesByItself = false
                if let tag = attached[device] {
                    goesByItself = attached.isSCSIDisk(device)
                    try domain.detach(tag, "\(step): \(device)")
                    attached.remove(device)
                } else if case .vsock = device {
                    try domain.unplugVsock(step)
                } else {
                    continue
                }
                // QEMU takes a SCSI unit away by itself, and libvirt has waited for that.
                if !goesByItself { asked.append(device) }
            }
            return asked
        }
        if !asked.isEmpty { try await waitUntilGone(asked, from: id, step) }
    }

    /// How long a guest may take to let go of a PCI device.
    private static let patience: Duration = .seconds(10)

    private func waitUntilGone(_ devices: [DeviceID], from id: MachineID, _ step: String) async throws {
        let deadline = ContinuousClock.now + Self.patience
        while true {
            let left = try await with(id, step) { domain in
                let attached = MachineAttachments(liveDomain: try domain.description())
                return try devices.filter {
                    if case .vsock = $0, try domain.hasVhostUserVsock(step) { return true }
                    return attached.contains($0)
                }
            }
            if left.isEmpty { return }
            guard ContinuousClock.now < deadline else {
                attachments.remove(id)
                throw SwiftletError(.deadlineExceeded, "\(step): the guest does not let go of \(Self.names(left))")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private static func requirePluggable(_ device: DeviceID) throws {
        switch device {
        case .disk, .interface, .filesystem, .vsock: break
        case .console, .channel, .random, .panic, .watchdog, .display, .tpm, .balloon:
            throw SwiftletError(.invalidArgument, "a machine has its \(device) from its start or not at all")
        }
    }

    private static func names(_ devices: [DeviceID]) -> String {
        devices.count > 4 ? "\(devices.count) devices" : devices.map(\.description).joined(separator: ", ")
    }

    // MARK: Size

    public func resizeDisk(_ serial: String, of id: MachineID, to bytes: UInt64) async throws {
        try DeviceID.disk(serial: serial).validate()
        let step = "resize disk \(serial) of machine \(id)"
        guard bytes <= OverlayDisk.largest else { throw SwiftletError(.invalidArgument, "\(step): \(bytes) bytes are too many") }
        let size = (bytes + 511) / 512 * 512
        try await inTurn(id) { [self] in
            try await with(id, step) { domain in
                let disk = MachineAttachments(liveDomain: try domain.description()).disks[serial]
                guard let disk, let name = disk.tag["target"]?.attribute("dev") else {
                    throw SwiftletError(.notFound, "\(step): no such disk")
                }
                guard disk.tag["readonly"] == nil else { throw SwiftletError(.failedPrecondition, "\(step): it is read-only") }
                var information = virDomainBlockInfo()
                guard virDomainGetBlockInfo(domain.pointer, name, &information, 0) == 0 else { throw SwiftletError.libvirt(step) }
                // libvirt and QEMU would cut a raw disk off.
                guard size >= information.capacity else {
                    throw SwiftletError(.invalidArgument, "\(step): \(size) bytes are less than the \(information.capacity) that it has")
                }
                guard size > information.capacity else { return }
                guard virDomainBlockResize(domain.pointer, name, size, VIR_DOMAIN_BLOCK_RESIZE_BYTES.rawValue) == 0 else {
                    throw SwiftletError.libvirt(step)
                }
            }
        }
    }

    /// Changes what is attached to a running machine, one change at a time.
    ///
    /// - Parameters:
    ///   - calls: how many calls of libvirt it may take; each takes some 20 ms.
    ///   - body: gets the domain, what is attached to it, and the call, to see whether anybody still waits for it.
    private func change<Value: Sendable>(
        _ id: MachineID, _ step: String, calls: Int,
        _ body: @escaping @Sendable (DomainPointer, inout MachineAttachments, BlockingCall) throws -> Value
    ) async throws -> Value {
        try await inTurn(id) { [self] in
            let known = attachments.beginChange(of: id)
            do {
                let (value, after) = try await perform(step, timeout: configuration.callTimeout + .milliseconds(200) * calls) {
                    connection, call in
                    try DomainPointer.withDomain(id, on: connection) { domain in
                        guard let domain, domain.isActive else { throw SwiftletError(.notFound, "\(step): it does not run") }
                        // A thread that waited too long for its turn must not change what the caller has given up.
                        guard !call.isAbandoned else { throw SwiftletError(.deadlineExceeded, step) }
                        var attached = try known ?? MachineAttachments(liveDomain: domain.description())
                        let value = try body(domain, &attached, call)
                        return (value, attached)
                    }
                }
                attachments.endChange(of: id, after)
                return value
            } catch {
                attachments.endChange(of: id, nil)
                throw error
            }
        }
    }
}

extension DomainPointer {
    func attach(_ tag: XMLTag, _ step: String) throws {
        guard virDomainAttachDeviceFlags(pointer, tag.rendered(), VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else {
            throw SwiftletError.libvirt(step)
        }
    }

    func detach(_ tag: XMLTag, _ step: String) throws {
        guard virDomainDetachDeviceFlags(pointer, tag.rendered(), VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else {
            throw SwiftletError.libvirt(step)
        }
    }
}
