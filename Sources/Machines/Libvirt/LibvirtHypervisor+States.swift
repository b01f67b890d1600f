import CLibvirt
import Errors
import Glibc

extension LibvirtHypervisor {
    public func pause(_ id: MachineID) async throws {
        let step = "pause machine \(id)"
        try await inTurn(id) { [self] in
            try await with(id, step) { domain in
                guard ![.paused, .diskFull].contains(domain.state()) else { return }
                guard virDomainSuspend(domain.pointer) == 0 else { throw SwiftletError.libvirt(step) }
            }
        }
    }

    public func resume(_ id: MachineID) async throws {
        let step = "resume machine \(id)"
        try await inTurn(id) { [self] in
            try await with(id, step) { domain in
                guard [.paused, .diskFull].contains(domain.state()) else { return }
                guard virDomainResume(domain.pointer) == 0 else { throw SwiftletError.libvirt(step) }
            }
        }
    }

    public func shutdown(_ id: MachineID) async throws {
        let step = "shut machine \(id) down"
        // libvirt's test driver has no such button.
        let button = haveProcesses ? VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN.rawValue : 0
        try await with(id, step) { domain in
            guard virDomainShutdownFlags(domain.pointer, button) == 0 else {
                let error = SwiftletError.libvirt(step)
                // It ended meanwhile.
                if error.code == .notFound || !domain.isActive { return }
                throw error
            }
        }
    }

    public func reset(_ id: MachineID) async throws {
        let step = "reset machine \(id)"
        try await with(id, step) { domain in
            guard virDomainReset(domain.pointer, 0) == 0 else { throw SwiftletError.libvirt(step) }
        }
    }

    public func reboot(_ id: MachineID) async throws {
        let step = "reboot machine \(id)"
        let button = haveProcesses ? VIR_DOMAIN_REBOOT_ACPI_POWER_BTN.rawValue : 0
        try await with(id, step) { domain in
            guard virDomainReboot(domain.pointer, button) == 0 else { throw SwiftletError.libvirt(step) }
        }
    }

    // MARK: Save and restore

    public func save(_ id: MachineID, to path: String) async throws -> SavedMachine {
        try MachineSpec.checkPath(path)
        let step = "save machine \(id)"
        return try await inTurn(id) { [self] in
            let saved = try await with(id, step, timeout: configuration.saveTimeout) { domain in
                guard try !domain.hasVhostUserVsock(step) else {
                    throw SwiftletError(.failedPrecondition, "\(step): its vsock device cannot be saved; detach it first")
                }
                let description = try domain.description(VIR_DOMAIN_XML_MIGRATABLE)
                if let filesystem = MachineAttachments(liveDomain: description).filesystems.first {
                    throw SwiftletError(.failedPrecondition, "\(step): \(filesystem) cannot be saved; detach it first")
                }
                let xml = Vsock.withoutDevice(description).rendered()
                guard virDomainSaveFlags(domain.pointer, path, xml, VIR_DOMAIN_SAVE_RUNNING.rawValue) == 0 else {
                    throw SwiftletError.libvirt(step)
                }
                return SavedMachine(id: id, name: domain.name, path: path)
            }
            attachments.remove(id)
            return saved
        }
    }

    public func restore(_ saved: SavedMachine) async throws -> Machine {
        try MachineSpec.checkPath(saved.path)
        let step = "restore machine \(saved.name)"
        guard access(saved.path, F_OK) == 0 else {
            throw SwiftletError(.notFound, "\(step): \(saved.path): \(String(cString: strerror(errno)))")
        }
        return try await inTurn(saved.id) { [self] in
            try await perform(step, timeout: configuration.saveTimeout) { [self] connection, call in
                nonisolated(unsafe) let connection = connection
                try inMachineNamespace {
                    guard virDomainRestore(connection, saved.path) == 0 else { throw SwiftletError.libvirt(step) }
                }
                var bytes = saved.id.uuid.uuid
                let domain = withUnsafeBytes(of: &bytes) { virDomainLookupByUUID(connection, $0.bindMemory(to: UInt8.self).baseAddress) }
                guard let domain else { throw SwiftletError.libvirt(step) }
                return try started(DomainPointer(domain), saved.id, call, step)
            }
        }
    }
}
