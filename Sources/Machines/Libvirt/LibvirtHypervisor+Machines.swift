import CLibvirt
import CLinux
import Concurrency
import Errors
import Glibc
import Linux

extension LibvirtHypervisor {
    public func start(_ spec: MachineSpec) async throws -> Machine {
        let xml = try blueprint.xml(spec)
        let step = "start machine \(spec.name)"
        let began = ContinuousClock.now
        defer { logger.debug("start of machine is over", metadata: ["name": "\(spec.name)", "took": "\(began.duration(to: .now))"]) }
        return try await inTurn(spec.id) { [self] in
            let (machine, isNew) = try await perform(step, timeout: configuration.startTimeout) { [self] connection, call in
                if let running = try find(spec.id, on: connection) { return (running, false) }
                // Used by one thread at a time: this one waits.
                nonisolated(unsafe) let connection = connection
                let address = try inMachineNamespace {
                    guard let pointer = virDomainCreateXML(connection, xml, 0) else { throw Self.startError(step, spec) }
                    return UInt(bitPattern: pointer)
                }
                guard let pointer = virDomainPtr(bitPattern: address) else { throw SwiftletError(.internal, step) }
                return (try started(DomainPointer(pointer), spec.id, call, step), true)
            }
            if isNew { attachments.insert(MachineAttachments(spec), of: spec.id) }
            return machine
        }
    }

    /// The machine that libvirt has just started.
    ///
    /// - Parameter domain: is freed.
    func started(_ domain: DomainPointer, _ id: MachineID, _ call: BlockingCall, _ step: String) throws -> Machine {
        defer { virDomainFree(domain.pointer) }
        guard !call.isAbandoned else {
            // The caller gets an error, and releases what the machine stands on.
            virDomainDestroy(domain.pointer)
            throw SwiftletError(.deadlineExceeded, step)
        }
        let machine = Machine(id: id, name: domain.name, state: domain.state(), process: emulators.find(id, name: domain.name))
        guard machine.process != nil || !haveProcesses else {
            virDomainDestroy(domain.pointer)
            let words = hub.logDirectory.flatMap { DomainLog(directory: $0, name: machine.name) }?.lastWords ?? ""
            throw SwiftletError(.internal, "\(step): QEMU ended right after its start\(words.isEmpty ? "" : ": \(words)")")
        }
        return machine
    }

    private static func startError(_ step: String, _ spec: MachineSpec) -> SwiftletError {
        let error = SwiftletError.libvirt(step)
        // The kernel's answer to VHOST_VSOCK_SET_GUEST_CID (drivers/vhost/vsock.c).
        if case .kernel(let cid) = spec.vsock, error.libvirtError?.systemError == EADDRINUSE {
            return SwiftletError(.alreadyExists, "\(step): vsock context id \(cid) is another machine's", cause: error.libvirtError)
        }
        return error
    }

    public func machine(_ id: MachineID) async throws -> Machine? {
        try await perform("look up machine \(id)", timeout: configuration.callTimeout) { [self] connection, _ in
            try find(id, on: connection)
        }
    }

    public func machines() async throws -> [Machine] {
        try await perform("list machines", timeout: configuration.callTimeout) { [self] connection, _ in
            var list: UnsafeMutablePointer<virDomainPtr?>?
            let count = virConnectListAllDomains(connection, &list, VIR_CONNECT_LIST_DOMAINS_ACTIVE.rawValue)
            guard count >= 0, let list else { throw SwiftletError.libvirt("list domains") }
            defer { free(list) }
            return (0..<Int(count)).compactMap { index in
                guard let pointer = list[index] else { return nil }
                defer { virDomainFree(pointer) }
                let domain = DomainPointer(pointer)
                return domain.uuid.flatMap { machine(domain, MachineID($0)) }
            }
        }
    }

    private func find(_ id: MachineID, on connection: virConnectPtr) throws -> Machine? {
        try DomainPointer.withDomain(id, on: connection) { domain in
            guard let domain, domain.isActive else { return nil }
            return machine(domain, id)
        }
    }

    /// Nil for one that has ended: for a moment after its restart libvirtd lists machines that ended without it.
    private func machine(_ domain: DomainPointer, _ id: MachineID) -> Machine? {
        let name = domain.name
        let process = haveProcesses ? emulators.find(id, name: name) : nil
        guard process != nil || !haveProcesses else { return nil }
        return Machine(id: id, name: name, state: domain.state(), process: process)
    }

    public func destroy(_ id: MachineID, process: ProcessIdentity?, atOnce: Bool) async throws {
        let emulators = emulators
        let step = "destroy machine \(id)"
        let began = ContinuousClock.now
        defer {
            attachments.remove(id)
            logger.debug("destruction of machine is over", metadata: ["id": "\(id)", "took": "\(began.duration(to: .now))"])
        }
        // Whoever knows the process spares the search through all of them.
        var emulator = process
        if emulator == nil, haveProcesses { emulator = await OwnThread.answer { emulators.find(id, name: nil) } }
        let ran = emulator?.isAlive == true
        if atOnce, ran, let emulator { await OwnThread.answer { Self.kill(emulator) } }
        var failure: SwiftletError?
        do {
            try await destroyThroughLibvirt(id, step, configuration.destroyTimeout)
        } catch let error as SwiftletError {
            failure = error
        }
        var killed = false
        // libvirt's word is not enough: only a process that is gone lets go of disks, taps and sockets.
        if let emulator, emulator.isAlive {
            logger.warning(
                "killing QEMU", metadata: ["id": "\(id)", "pid": "\(emulator.pid)", "libvirt": "\(failure?.description ?? "done")"])
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
            try? await destroyThroughLibvirt(id, step, .seconds(2))
            failure = nil
        }
        // Without libvirt and without a process in sight there is no machine, unless a start is still under way.
        if let failure, failure.code != .unavailable { throw failure }
        // libvirtd sends no event for a machine that ends while it is still finding its machines again after a restart.
        if ran { report(.stopped(id, .destroyed)) }
    }

    /// Kills QEMU before libvirt does, which asks a process that is there to end and looks again every 0.2 s (virProcessKillPainfully): it
    /// hears of the end by that of QEMU's monitor, once nothing of QEMU is left. Blocks.
    private static func kill(_ emulator: ProcessIdentity) {
        let monitor = HeldSockets(of: emulator)
        defer { monitor.close() }
        let pidfd = clinux_pidfd_open(emulator.pid, 0)
        defer { if pidfd >= 0 { Glibc.close(pidfd) } }
        emulator.kill()
        // The descriptor tells of the last thread's end; QEMU's first one is a zombie before the others have given back its memory.
        var ended = pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0)
        guard pidfd >= 0, poll(&ended, 1, 5000) > 0 else { return }
        // libvirt takes a zombie for alive; whoever collects it does so in a moment.
        for _ in 0..<50 where Glibc.kill(emulator.pid, 0) == 0 { usleep(1000) }
    }

    /// Succeeds when libvirt knows the domain no more.
    private func destroyThroughLibvirt(_ id: MachineID, _ step: String, _ timeout: Duration) async throws {
        try await perform(step, timeout: timeout) { connection, _ in
            try DomainPointer.withDomain(id, on: connection) { domain in
                guard let domain, virDomainDestroy(domain.pointer) != 0 else { return }
                let error = SwiftletError.libvirt(step)
                // It ended by itself between the look-up and the call, or while the call waited for QEMU.
                if error.code == .notFound || !domain.isActive { return }
                throw error
            }
        }
    }
}
