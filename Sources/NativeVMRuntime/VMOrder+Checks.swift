import CloudInit
import Concurrency
import Errors
import Linux
import Machines
import Runtime
import Volumes

/// What the node cannot make, and what is wrong with an order.
extension VMOrder {
    /// Whether the node can make such a machine. Nothing is made.
    ///
    /// - Throws: errors naming the annotation, field or path.
    func check(_ emulator: TPMEmulator) async throws {
        // sun_path holds 108 bytes with its final NUL (unix(7)).
        for path in [names.consoleSocket, names.guestAgentSocket, names.shareSocket, names.vhostSocket, names.hostSocket]
        where path.utf8.count > 107 {
            throw SwiftletError(.failedPrecondition, "socket path \(path) is longer than 107 bytes; choose a shorter run directory")
        }
        try requirePluggable()
        try await requireRoom()
        try await requireDevices()
        try await requireSources()
        if annotations.firmware == .uefi, let obstacle = await OwnThread.answer({ UEFIFirmware().obstacle() }) {
            throw SwiftletError(.failedPrecondition, "swiftlet/firmware: \(obstacle)")
        }
        // The machine would stand still at the firmware's exception, and nobody would learn why.
        if annotations.firmware == .uefi, extent.memoryBytes < UEFIFirmware.leastMemory {
            throw SwiftletError(
                .invalidArgument,
                "swiftlet/firmware: UEFI needs \(UEFIFirmware.leastMemory >> 20) MiB of memory, and what it boots needs its own; the machine "
                    + "would have \(extent.memoryBytes >> 20) MiB (linux.memory_limit_in_bytes, or swiftlet/memory)")
        }
        if annotations.hasTPM, let obstacle = await OwnThread.answer({ emulator.obstacle() }) {
            throw SwiftletError(.failedPrecondition, "swiftlet/tpm: \(obstacle)")
        }
        if annotations.graphics == .virgl {
            let probe = VirglProbe(program: configuration.virglProbe)
            let nobody = MachineUser(uid: 65534, gid: configuration.group)
            if let obstacle = await probe.obstacle(user: nobody) {
                throw SwiftletError(.failedPrecondition, "swiftlet/graphics: \(obstacle)")
            }
        }
    }

    /// - Throws: `failedPrecondition` naming the interface that a machine cannot have.
    private func requirePluggable() throws {
        for interface in network.interfaces where MACAddress(interface.mac) == nil {
            throw SwiftletError(
                .failedPrecondition,
                "the CNI plug-ins made \(quoted(interface.name)), which is no Ethernet interface: a guest cannot have it")
        }
        guard network.additional.count <= VMNames.mostFurtherInterfaces else {
            throw SwiftletError(
                .failedPrecondition,
                "the CNI plug-ins made \(network.additional.count) interfaces beside the first one; a machine takes "
                    + "\(VMNames.mostFurtherInterfaces)")
        }
    }

    /// Bytes that QEMU and its helpers need on the node beside the guest's RAM.
    static let emulatorMemory: UInt64 = 96 << 20

    /// Whether the control groups above the machine hold it.
    private func requireRoom() async throws {
        let (parent, name, memory) = (pod.cgroupParent, names.container, extent.memoryBytes)
        guard !parent.isEmpty else { return }
        let limit = try await OwnThread.run { try ProcessCgroup(parent: parent, name: name, on: Cgroups.detect()).memoryAbove }
        guard let limit, memory + Self.emulatorMemory > limit.bytes else { return }
        throw SwiftletError(
            .failedPrecondition,
            "cgroup_parent: control group \(limit.group) has a memory limit of \(limit.bytes) bytes; the machine needs "
                + "\(memory + Self.emulatorMemory) with what QEMU takes; set overhead.podFixed.memory of its RuntimeClass to "
                + "\(Self.emulatorMemory >> 20)Mi, or raise the limit")
    }

    /// - Throws: `.failedPrecondition` naming the device that the node's administrator lets no pod have.
    private func requireDevices() async throws {
        let (devices, patterns) = (plan.spec.security.devices, configuration.rawDevices)
        guard !patterns.isEmpty else { return }
        try await OwnThread.run {
            for device in devices where !DevicePattern.allows(device.hostPath, patterns) {
                throw SwiftletError(
                    .failedPrecondition,
                    "config.devices: \(quoted(device.hostPath)) matches none of vm.raw_devices: \(patterns.joined(separator: ", "))")
            }
        }
    }

    private func requireSources() async throws {
        let own = [configuration.runDirectory, configuration.stateDirectory]
        var mounts = shared.map(\.mount)
        if case .file(let mount) = root { mounts.append(mount) }
        if let stateVolume { mounts.append(stateVolume) }
        for mount in mounts {
            do {
                let path = try await OwnThread.run { try HostPath(mount.hostPath) }
                if let directory = own.first(where: { path.overlaps($0) }) {
                    throw SwiftletError(.failedPrecondition, "host_path \(mount.hostPath) holds or lies in \(directory)")
                }
            } catch {
                throw SwiftletError.wrap(error, "config.mounts \(mount.containerPath)")
            }
        }
    }
}
