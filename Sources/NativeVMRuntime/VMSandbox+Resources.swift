import Concurrency
import Errors
import Linux
import Machines
import PodMachine
import Runtime

extension VMSandbox {
    // MARK: Size

    /// Makes the machine what the container's limits say, where they are its size: at once when it has not been started, else as far as it
    /// can be changed while it runs.
    ///
    /// - Throws: `.failedPrecondition` for a size that the machine cannot be given; `.deadlineExceeded` when its guest does not follow.
    func updateContainer(_ id: String, from old: LinuxResources, to new: LinuxResources) async throws {
        guard let record = entries.withLock({ $0[id]?.record }) else { throw SwiftletError(.notFound, "container \(id)") }
        let wanted = try wanted(new, record)
        guard wanted != record.extent else { return }
        guard record.isStarted else {
            try await change(id) { record in
                (record.machine.shape.memoryBytes, record.machine.shape.vcpus) = (wanted.memoryBytes, wanted.vcpus)
                guard let growth = record.machine.shape.growth else { return }
                record.machine.shape.growth = MachineExtent(
                    memoryBytes: max(growth.memoryBytes, wanted.memoryBytes), vcpus: max(growth.vcpus, wanted.vcpus))
            }
            return
        }
        try requireRoom(for: wanted, record)
        try await resize(record, to: wanted)
        await growVolumes(record)
    }

    /// A guest whose record stays as it was has the memory that the record says: more is plugged in before the balloon lets go, and what the
    /// balloon has done is undone.
    private func resize(_ record: VMRecord, to wanted: MachineExtent) async throws {
        let (machine, hypervisor) = (record.machine.id, hypervisor)
        let start = record.machine.shape.memoryBytes
        let (before, after) = (min(record.extent.memoryBytes, start), min(wanted.memoryBytes, start))
        let isBallooned = after != before
        do {
            // First: libvirt counts what is plugged in as the balloon's too.
            if isBallooned { try await hypervisor.balloon(machine, to: after) }
            let size = try await hypervisor.grow(machine, to: wanted)
            if let cgroup = record.cgroup, let process = entries.withLock({ $0[record.container]?.process }),
                size.vcpus > record.extent.vcpus
            {
                // libvirt has put the new vCPUs where it would have them.
                try await OwnThread.run { try cgroup.place(process) }
            }
            try await change(record.container) { $0.resized = wanted }
        } catch {
            // Also for a caller whose time is over.
            if isBallooned { try? await uncancelled { try await hypervisor.balloon(machine, to: before) } }
            throw error
        }
    }

    /// - Throws: `.failedPrecondition` for a machine of an earlier release.
    private func wanted(_ resources: LinuxResources, _ record: VMRecord) throws -> MachineExtent {
        guard let sizing = record.sizing else {
            throw SwiftletError(.failedPrecondition, "linux: the machine was made by an earlier release; make the container again")
        }
        let now = record.extent
        var wanted = handler.configuration.extent(
            for: resources, memory: sizing.memory && resources.memoryCeiling != nil ? nil : now.memoryBytes,
            vcpus: sizing.vcpus ? nil : now.vcpus)
        // The node's control groups give the vCPUs less time: a guest need not let go of one.
        if record.isStarted { wanted.vcpus = max(wanted.vcpus, now.vcpus) }
        return wanted
    }

    private func requireRoom(for wanted: MachineExtent, _ record: VMRecord) throws {
        let (shape, now) = (record.machine.shape, record.extent)
        let most = shape.growth ?? MachineExtent(memoryBytes: shape.memoryBytes, vcpus: shape.vcpus)
        if wanted.vcpus > now.vcpus, shape.accelerator == .tcg {
            throw SwiftletError(
                .failedPrecondition,
                "linux.cpu_quota: \(wanted.vcpus) vCPUs: an emulated machine keeps the \(now.vcpus) that it was started with; make the "
                    + "container again")
        }
        guard wanted.vcpus <= most.vcpus else {
            throw SwiftletError(
                .failedPrecondition,
                "linux.cpu_quota: \(wanted.vcpus) vCPUs are more than the \(most.vcpus) that the running machine can have; the annotation "
                    + "swiftlet/vcpus-max says how many, or make the container again")
        }
        guard wanted.memoryBytes <= most.memoryBytes else {
            throw SwiftletError(
                .failedPrecondition,
                "linux.memory_limit_in_bytes: \(wanted.memoryBytes) bytes are more than the \(most.memoryBytes) that the running machine can "
                    + "have; the annotation swiftlet/memory-max says how many, or make the container again")
        }
        guard wanted.memoryBytes >= now.memoryBytes || now.memoryBytes <= shape.memoryBytes else {
            throw SwiftletError(
                .failedPrecondition,
                "linux.memory_limit_in_bytes: \(wanted.memoryBytes) bytes are less than the \(now.memoryBytes) that the machine has grown to; "
                    + "what it has beyond the \(shape.memoryBytes) of its start is not taken out again")
        }
        guard wanted.memoryBytes >= 32 << 20 else {
            throw SwiftletError(
                .failedPrecondition,
                "linux.memory_limit_in_bytes: \(wanted.memoryBytes) bytes are less than the 32 MiB of the least machine")
        }
    }

    /// The limits of the machine's control group follow the pod's. What its guest was started with is never what QEMU is killed for.
    func fit(_ demand: PodDemand) async throws {
        guard var limits = PodCgroup.limits(demand) else { return }
        let records = entries.withLock { $0.values.map(\.record).filter { $0.isStarted && $0.end == nil } }
        guard let record = records.first, let cgroup = record.cgroup else { return }
        if let memory = limits.memory {
            let held = max(record.machine.shape.memoryBytes, record.extent.memoryBytes)
            limits.memory = max(memory, held + VMOrder.emulatorMemory)
        }
        let limiter: CgroupLimiter? = entries.withLock { entries in
            if entries[record.container]?.limiter == nil { entries[record.container]?.limiter = CgroupLimiter(cgroup) }
            return entries[record.container]?.limiter
        }
        try await limiter?.set(limits)
    }

    // MARK: Block volumes

    /// From one look at them to the next.
    private static let look = Duration.seconds(5)

    /// Tells the guest of block volumes that have grown on the node, as long as the machine runs.
    func watchVolumes(_ record: VMRecord) -> Task<Void, Never>? {
        guard !record.blockDevices.isEmpty else { return nil }
        return Task { [weak self] in
            while !Task.isCancelled {
                do { try await Task.sleep(for: Self.look) } catch { return }
                await self?.growVolumes(record)
            }
        }
    }

    private func growVolumes(_ record: VMRecord) async {
        for disk in record.blockDevices {
            guard let size = await OwnThread.answer({ try? BlockDeviceNode.size(of: disk.path) }) else { continue }
            let isKnown = entries.withLock { $0[record.container]?.sizes[disk.serial] == size }
            guard !isKnown, entries.withLock({ $0[record.container]?.process }) != nil else { continue }
            do {
                try await hypervisor.resizeDisk(disk.serial, of: record.machine.id, to: size)
            } catch {
                // Once for each size: one that shrank stays so.
                logger.warning(
                    "the guest does not see a volume's new size",
                    metadata: ["container": "\(record.container)", "disk": "\(disk.serial)", "bytes": "\(size)", "error": "\(error)"])
            }
            entries.withLock { $0[record.container]?.sizes[disk.serial] = size }
        }
    }
}

extension VMRecord {
    /// Disks that are block volumes, and that can be given more bytes.
    fileprivate var blockDevices: [DiskSpec] { machine.disks.filter { $0.medium == .blockDevice && !$0.readOnly } }
}
