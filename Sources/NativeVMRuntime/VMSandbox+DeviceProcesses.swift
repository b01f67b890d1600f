import Concurrency
import Linux
import Machines
import PodMachine
import Runtime

/// Processes on the node that serve a machine's devices: each is in the container's ledger and control group and ends with the machine. A
/// machine that one of them has left does not go on, since what its guest does with the device hangs or fails: it is ended with the reason,
/// and the kubelet restarts its container by the pod's policy.
extension VMSandbox {
    /// QEMU connects to it at its own start.
    func startTPM(_ record: VMRecord, _ user: MachineUser, _ ledger: Ledger) async throws {
        let (names, emulator) = (names(record.container), machines.tpmEmulator)
        let state: TPMEmulator.State = record.lends(PersistentRoot.tpmName) ? .file(names.lentTPM) : .directory(names.tpmState)
        let process = try await ledger.acquire(.tpm, names.tpmSocket, ProcessDocument(process: nil)) {
            try await emulator.start(socket: names.tpmSocket, state: state, user: user)
        }
        try await ledger.note(.tpm, names.tpmSocket, ProcessDocument(process: process))
        try await PodCgroup.place(ledger)
        watchDevice(process, Self.tpm, of: record)
    }

    private static let tpm = "swtpm, which is the machine's TPM"
    static let share = "virtiofsd, which serves the pod's mounts"

    /// Looks the processes of an earlier daemon up, which the ledger names, and waits for their ends.
    func watchDevices(of record: VMRecord) async throws {
        let names = names(record.container)
        for (kind, name, what) in [
            (ResourceKind.tpm, names.tpmSocket, Self.tpm), (.shareDaemon, names.shareDirectory, Self.share),
        ] {
            // It is the container's, whose ledger is not at hand here.
            let entry = try await context.ledger.all(kind, named: name).first { $0.name == name }
            if let process = entry?.process { watchDevice(process, what, of: record) }
        }
    }

    /// For those that end with QEMU: whoever sees its end says why.
    private static let patience = Duration.seconds(2)

    /// Ends the machine when the process has ended without it.
    func watchDevice(_ process: ProcessIdentity, _ what: String, of record: VMRecord) {
        let watch = Task { [weak self] in
            guard await process.hasEnded() else { return }
            do { try await Task.sleep(for: Self.patience) } catch { return }
            await self?.lost("\(what), has ended (process \(process.pid))", record)
        }
        let isKnown = entries.withLock { entries in
            entries[record.container]?.devices.append(watch)
            return entries[record.container] != nil
        }
        if !isKnown { watch.cancel() }
    }

    private func lost(_ reason: String, _ record: VMRecord) async {
        var pause = Duration.milliseconds(100)
        while !Task.isCancelled {
            do {
                guard try await hypervisor.machine(record.machine.id) != nil else { return }
                let entry: Entry? = entries.withLock { entries in
                    guard let entry = entries[record.container], entry.record.end == nil else { return nil }
                    if entry.loss == nil { entries[record.container]?.loss = reason }
                    return entry
                }
                guard let entry else { return }
                if entry.loss == nil {
                    logger.error("machine is ended", metadata: ["container": "\(record.container)", "reason": "\(reason)"])
                }
                return try await kill(entry)
            } catch {
                logger.warning("machine not ended yet", metadata: ["container": "\(record.container)", "error": "\(error)"])
            }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, .seconds(5))
        }
    }
}
