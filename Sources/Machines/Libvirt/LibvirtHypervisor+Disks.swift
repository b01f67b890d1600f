import CLibvirt
import Errors
import FoundationEssentials

extension LibvirtHypervisor {
    public func attachDisk(_ disk: DiskSpec, to uuid: UUID) async throws {
        try disk.validate()
        try await change(uuid, "attach disk \(disk.serial)") { domain, liveXML, step in
            let disks = DomainDisks(liveXML: liveXML)
            guard disks[disk.serial] == nil else { return }
            guard let unit = disks.freeUnit else {
                throw SwiftletError(.resourceExhausted, "\(step): the machine has \(VMSpec.mostDisks) disks already")
            }
            let xml = Disks.tag(disk, unit: unit).rendered()
            guard virDomainAttachDeviceFlags(domain.pointer, xml, VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else {
                throw SwiftletError.libvirt(step)
            }
        }
    }

    public func detachDisk(serial: String, from uuid: UUID) async throws {
        guard VMSpec.isName(serial, longest: 36) else {
            throw SwiftletError(.invalidArgument, "detach disk: \(serial.prefix(64).debugDescription) is not a serial")
        }
        try await change(uuid, "detach disk \(serial)") { domain, liveXML, step in
            guard let entry = DomainDisks(liveXML: liveXML)[serial] else { return }
            guard virDomainDetachDeviceFlags(domain.pointer, entry.xml, VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else {
                throw SwiftletError.libvirt(step)
            }
        }
    }

    /// Changes a running machine, one change at a time.
    ///
    /// - Parameter body: gets the domain, libvirt's XML of it, and the step's name for errors.
    func change(
        _ uuid: UUID, _ what: String, _ body: @escaping @Sendable (DomainPointer, String, String) throws -> Void
    ) async throws {
        let step = "\(what), machine \(uuid.uuidString.lowercased())"
        try await inTurn(uuid) { [self] in
            try await perform(step, timeout: configuration.callTimeout) { connection, call in
                try DomainPointer.withDomain(uuid, on: connection) { domain in
                    guard let domain, domain.isActive else { throw SwiftletError(.notFound, "\(step): it does not run") }
                    // A thread that waited too long for its turn must not change what the caller has given up.
                    guard !call.isAbandoned else { return }
                    try body(domain, domain.liveXML(), step)
                }
            }
        }
    }
}
