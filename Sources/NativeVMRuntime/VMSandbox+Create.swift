import CloudInit
import Concurrency
import Errors
import Glibc
import Linux
import Machines
import PodMachine
import Runtime
import Volumes

extension VMSandbox {
    /// Makes the container's disks, its seed and the record of its machine. All of it is the container's own: another container of the pod,
    /// which the kubelet makes when this one has ended, gets its own.
    func createContainer(_ id: String, _ plan: ContainerPlan, ledger: Ledger) async throws -> ContainerUser {
        guard case .disk(let image) = plan.root else {
            throw SwiftletError(.internal, "container \(plan.spec.metadata.name): its image holds no disk")
        }
        try entries.withLock { try requireNoOther(than: id, in: $0) }
        var order = try VMOrder(names(id), plan, image, context.spec, network, handler.configuration)
        try await order.check(machines.tpmEmulator)
        let root = try await prepareRoot(order, ledger)
        let state = try await takeState(order, beside: root, ledger)
        // Before all that will be this user's: it is released after that.
        let user = MachineUser(uid: try await machines.users.acquire(ledger), gid: handler.configuration.group)
        order.user = user
        let names = order.names
        for directory in [names.runDirectory, names.stateDirectory] {
            try await ledger.acquire(.directory, directory) { try await OwnThread.run { try Directory.create(directory, mode: 0o711) } }
        }
        // Root's and nobody else's to write in are the sockets that root makes and connects to; what QEMU makes is open to its user alone.
        try await OwnThread.run {
            try Directory.create(names.emulatorDirectory, mode: 0o700)
            guard chown(names.emulatorDirectory, user.uid, 0) == 0 else { throw SwiftletError.system("chown \(names.emulatorDirectory)") }
        }
        try await PodCgroup.acquire(id, below: context.spec.cgroupParent, PodCgroup.limits(context.spec.demand), ledger)
        try await PodUsers.noteProcesses(of: user, ledger)
        try await order.makeDisks()
        try await order.makeSeed()
        for number in network.interfaces.indices {
            try await machines.acquireTap(names.tap(number), for: user, namespace: context.network.namespacePath, ledger)
        }
        let record = VMRecord(
            pod: context.id, container: id, machine: order.machine, interfaces: network.interfaces, mounts: order.shared,
            cgroup: try ledger.entry(.cgroup)?.decoded(ProcessCgroup.self), root: root, state: state, sizing: order.sizing,
            lentFiles: order.lentFiles)
        try record.machine.validate()
        try Task.checkCancellation()
        try await OwnThread.run { try record.write(names.record) }
        entries.withLock { $0[id] = Entry(record: record) }
        if !record.unkept.isEmpty {
            logger.warning(
                "the root disk outlives its machine, and not all of the machine's state does",
                metadata: [
                    "container": "\(id)", "lost": "\(record.unkept.joined(separator: ", "))",
                    "kept by": "\(PersistentRoot.stateAnnotation)",
                ])
        }
        return ContainerUser(uid: 0, gid: 0, groups: [])
    }

    /// A pod is one machine: its container's network is the pod's. One that was never started stands in nobody's way: a kubelet that was
    /// interrupted makes another.
    func requireNoOther(than id: String, in entries: [String: Entry]) throws {
        let other = entries.values.first {
            $0.record.container != id && ($0.isStarting || $0.record.isStarted) && $0.record.end == nil
        }
        if let other = other?.record.container {
            throw SwiftletError(
                .failedPrecondition,
                "a pod of runtime handler \(handler.name) is one machine and has one container; container \(other) has not ended")
        }
    }

    /// Mounts what the container asked for in the share of its machine, which boots meanwhile.
    func share(_ record: VMRecord, _ user: MachineUser, _ ledger: Ledger) async throws {
        guard !record.mounts.isEmpty else { return }
        let names = names(record.container)
        let place = MachineSharePlace(
            directory: names.shareDirectory, socket: names.shareSocket, machine: record.machine.id, user: user)
        let machineShare = MachineShare(place, ledger: ledger, machines: machines)
        let (share, namespace) = try await machineShare.ready()
        if let process = await machineShare.process { watchDevice(process, Self.share, of: record) }
        try await ledger.note(
            .shareMounts, "\(share.directory)/\(record.container)", ShareMountsDocument(share: share.directory, container: record.container)
        )
        for mount in record.mounts {
            do {
                _ = try await OwnThread.run {
                    try share.add(
                        try HostPath(mount.mount.hostPath), container: record.container, index: mount.index, PodShare.Options(mount.mount),
                        in: namespace)
                }
            } catch {
                throw SwiftletError.wrap(error, "config.mounts \(mount.mount.containerPath)")
            }
        }
    }
}

extension PodShare.Options {
    init(_ mount: ContainerMount) {
        self.init(
            readOnly: mount.readOnly, recursiveReadOnly: mount.recursiveReadOnly, receivesMounts: mount.propagation == .hostToContainer,
            mappings: mount.mappings)
    }
}
