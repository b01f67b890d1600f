import CLibvirt
import Concurrency
import Errors
import FoundationEssentials
import Linux

extension LibvirtHypervisor {
    public func start(_ spec: VMSpec) async throws -> ProcessIdentity {
        let xml = try blueprint.xml(spec)
        let emulators = emulators
        let step = "start machine \(spec.name)"
        let began = ContinuousClock.now
        defer { logger.debug("start of machine is over", metadata: ["name": "\(spec.name)", "took": "\(began.duration(to: .now))"]) }
        return try await inTurn(spec.uuid) { [self] in
            try await perform(step, timeout: configuration.startTimeout) { connection, call in
                if let running = try Self.running(spec.uuid, on: connection, emulators) { return running }
                guard let pointer = virDomainCreateXML(connection, xml, 0) else {
                    throw SwiftletError.libvirt(step)
                }
                defer { virDomainFree(pointer) }
                guard !call.isAbandoned else {
                    // The caller was told that it failed, and releases what the machine stands on.
                    virDomainDestroy(pointer)
                    throw SwiftletError(.deadlineExceeded, step)
                }
                guard let process = emulators.find(uuid: spec.uuid, name: spec.name) else {
                    virDomainDestroy(pointer)
                    throw SwiftletError(.internal, "\(step): QEMU ended right after its start; its log is in libvirt's directory")
                }
                return process
            }
        }
    }

    private static func running(
        _ uuid: UUID, on connection: virConnectPtr, _ emulators: EmulatorProcess
    ) throws -> ProcessIdentity? {
        try DomainPointer.withDomain(uuid, on: connection) { domain in
            guard let domain, domain.isActive else { return nil }
            return emulators.find(uuid: uuid, name: domain.name)
        }
    }

    public func destroy(uuid: UUID, process: ProcessIdentity?) async throws {
        let emulators = emulators
        let step = "destroy machine \(uuid.uuidString.lowercased())"
        let began = ContinuousClock.now
        defer { logger.debug("destruction of machine is over", metadata: ["uuid": "\(uuid)", "took": "\(began.duration(to: .now))"]) }
        let emulator = await OwnThread.answer { emulators.find(uuid: uuid, name: nil) } ?? process
        let ran = emulator?.isAlive == true
        var failure: SwiftletError?
        do {
            try await destroyThroughLibvirt(uuid, step, configuration.destroyTimeout)
        } catch let error as SwiftletError {
            failure = error
        }
        var killed = false
        // libvirt's word is not enough: only a process that is gone lets go of disks, taps and sockets.
        if let emulator, emulator.isAlive {
            logger.warning(
                "killing QEMU", metadata: ["uuid": "\(uuid)", "pid": "\(emulator.pid)", "libvirt": "\(failure?.description ?? "done")"])
            emulator.kill()
            guard await OwnThread.answer({ emulator.waitForExit(.seconds(5)) }) else {
                throw SwiftletError(
                    .deadlineExceeded, "\(step): QEMU (process \(emulator.pid)) does not end on SIGKILL; see its stack in /proc",
                    cause: failure)
            }
            killed = true
        }
        if emulator != nil, killed || failure != nil {
            // The process is gone, at libvirt's hands or ours, and with it the machine. libvirt needs a moment to see it, a longer
            // one on a busy node, and keeps the name until then.
            try? await destroyThroughLibvirt(uuid, step, .seconds(2))
            failure = nil
        }
        // Without libvirt and without a process in sight there is no machine, unless a start is still under way.
        if let failure, failure.code != .unavailable { throw failure }
        // libvirtd tells nobody of a machine that ends while it is still finding its machines again after a restart.
        if ran { report(.stopped(uuid, reason: "destroyed")) }
    }

    /// Succeeds when libvirt knows the domain no more.
    private func destroyThroughLibvirt(_ uuid: UUID, _ step: String, _ timeout: Duration) async throws {
        try await perform(step, timeout: timeout) { connection, _ in
            try DomainPointer.withDomain(uuid, on: connection) { domain in
                guard let domain, virDomainDestroy(domain.pointer) != 0 else { return }
                let error = SwiftletError.libvirt(step)
                // It ended by itself between the look-up and the call, or while the call waited for QEMU.
                if error.code == .notFound || !domain.isActive { return }
                throw error
            }
        }
    }
}
