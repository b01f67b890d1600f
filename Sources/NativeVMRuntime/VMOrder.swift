import CloudInit
import Concurrency
import Errors
import Foundation
import GuestHardware
import Linux
import Machines
import PodMachine
import Runtime
import Volumes

/// What one container asks of its machine, and how that is made.
struct VMOrder: Sendable {
    let names: VMNames
    let plan: ContainerPlan
    let image: DiskImage
    let pod: SandboxSpec
    let network: AttachedNetwork
    let configuration: NativeVMConfiguration
    let annotations: VMAnnotations
    /// Nil: the root disk goes with the container.
    let root: PersistentRoot?
    /// Whom QEMU runs as, as soon as it is known.
    var user = MachineUser(uid: 0, gid: 0)

    /// - Throws: `.invalidArgument` with all annotations that are wrong.
    init(
        _ names: VMNames, _ plan: ContainerPlan, _ image: DiskImage, _ pod: SandboxSpec, _ network: AttachedNetwork,
        _ configuration: NativeVMConfiguration
    ) throws {
        self.names = names
        self.plan = plan
        self.image = image
        self.pod = pod
        self.network = network
        self.configuration = configuration
        var annotations = try VMAnnotations(pod: pod.annotations, container: plan.spec.annotations)
        root = try PersistentRoot(of: plan.spec, annotations)
        if root != nil, annotations.instanceID == nil { annotations.instanceID = PersistentRoot.instanceID(of: pod.metadata) }
        self.annotations = annotations
    }

    private var bus: DiskBus { annotations.diskBus }

    // MARK: Checks

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

    // MARK: Size

    var extent: MachineExtent {
        configuration.extent(for: plan.spec.resources, memory: annotations.memory, vcpus: annotations.vcpus)
    }

    /// The emulator cannot be given vCPUs.
    private var growth: MachineExtent? {
        let memory = min(annotations.mostMemory ?? 0, configuration.maximumMemory)
        let vcpus = configuration.accelerator == .kvm ? annotations.mostVCPUs ?? 0 : 0
        guard memory > extent.memoryBytes || vcpus > extent.vcpus else { return nil }
        return MachineExtent(memoryBytes: max(memory / (1 << 20) * (1 << 20), extent.memoryBytes), vcpus: max(vcpus, extent.vcpus))
    }

    /// What a change of the container's limits may change.
    var sizing: VMRecord.Sizing { VMRecord.Sizing(memory: annotations.memory == nil, vcpus: annotations.vcpus == nil) }

    // MARK: Disks

    private var base: DiskSpec.Backing { DiskSpec.Backing(path: image.path, format: image.format == .raw ? .raw : .qcow2) }

    var imageDisk: OverlayDisk.Base { OverlayDisk.Base(file: base, virtualSize: image.virtualSize) }

    func makeDisks() async throws {
        let overlays = OverlayDisk()
        try await makeRoot(overlays)
        for volume in annotations.dataVolumes {
            try await overlays.create(names.dataDisk(volume.name), on: nil, size: volume.size, owner: user)
        }
        for (number, device) in blockDevices {
            try await makeNode(names.deviceNode(number), of: device, readOnly: !device.access.contains("w"))
        }
        if annotations.firmware == .uefi, lentFiles.isEmpty {
            try await UEFIFirmware().makeVariables(names.variables, keep: false, owner: user)
        }
    }

    /// What a root disk's volume lends the machine.
    var lentFiles: [VMRecord.LentFile] {
        guard case .file(let mount) = root else { return [] }
        let disk = VMRecord.LentFile(
            volume: mount.hostPath, name: PersistentRoot.fileName, place: names.rootImage, bytes: annotations.rootSize)
        guard annotations.firmware == .uefi else { return [disk] }
        return [disk, VMRecord.LentFile(volume: mount.hostPath, name: PersistentRoot.variablesName, place: names.variables)]
    }

    private func makeRoot(_ overlays: OverlayDisk) async throws {
        switch root {
        case .device(let device): try await makeNode(names.rootDevice, of: device, readOnly: false)
        // Lent by its volume while the machine runs.
        case .file: return
        case nil:
            do {
                try await overlays.create(names.rootDisk, on: imageDisk, size: annotations.rootSize, owner: user)
            } catch let error as SwiftletError where error.code == .invalidArgument && annotations.rootSize != nil {
                throw SwiftletError.wrap(error, "swiftlet/root-size or VirtletRootVolumeSize")
            }
        }
        if annotations.graphics == .virgl {
            try await OwnThread.run { try RenderNode.create(names.renderNode, of: VirglProbe(program: "").renderNode, owner: user) }
        }
    }

    private func makeNode(_ path: String, of device: ContainerDevice, readOnly: Bool) async throws {
        let user = user
        do {
            try await OwnThread.run { try BlockDeviceNode.create(path, of: device.hostPath, readOnly: readOnly, owner: user) }
        } catch {
            throw SwiftletError.wrap(error, "config.devices \(device.containerPath)")
        }
    }

    /// Block volumes beside the root, by their number in the container's devices.
    private var blockDevices: [(number: Int, device: ContainerDevice)] {
        plan.spec.security.devices.enumerated().map { ($0, $1) }.filter { $0.device.containerPath != "/" }
    }

    private var rootDisk: DiskSpec {
        switch root {
        case .device:
            DiskSpec(path: names.rootDevice, serial: "root", readOnly: false, bus: bus, medium: .blockDevice, bootOrder: 1)
        case .file:
            DiskSpec(path: names.rootImage, serial: "root", readOnly: false, bus: bus, bootOrder: 1)
        case nil:
            DiskSpec(path: names.rootDisk, serial: "root", readOnly: false, format: .qcow2, bus: bus, backing: base, bootOrder: 1)
        }
    }

    /// With Swiftlet's agent: the same file for all machines. On virtio, as the seed: guests see it before udev runs.
    private var toolsDisk: DiskSpec? {
        guard annotations.agent == .auto, let path = configuration.tools else { return nil }
        return DiskSpec(path: path, serial: AgentStart.serial, readOnly: true, bus: .virtio)
    }

    private var dataDisks: [DiskSpec] {
        let volumes = annotations.dataVolumes.map { volume in
            DiskSpec(
                path: names.dataDisk(volume.name), serial: bus.serial(of: volume.name), readOnly: false, format: .qcow2,
                bus: bus)
        }
        let devices = blockDevices.map { number, device in
            DiskSpec(
                path: names.deviceNode(number), serial: bus.serial(of: Self.name(of: device)),
                readOnly: !device.access.contains("w"), bus: bus, medium: .blockDevice)
        }
        return volumes + devices
    }

    /// A device's name in the guest, of its path there: "dev-testpvc" of /dev/testpvc.
    private static func name(of device: ContainerDevice) -> String {
        device.containerPath.split(separator: "/").joined(separator: "-")
    }

    // MARK: Mounts

    /// What a machine has of its own, and the kubelet mounts in every container.
    private static let ownFiles: Set = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log", "/dev/shm"]

    /// Mounts that the guest gets by virtiofs.
    var shared: [VMRecord.Mount] {
        plan.spec.mounts.enumerated().filter { _, mount in
            !mount.hostPath.isEmpty && !Self.ownFiles.contains(mount.containerPath) && !annotations.isSeeded(mount)
                && !annotations.isRootVolume(mount)
        }.map { VMRecord.Mount(index: $0, mount: $1) }
    }

    // MARK: Seed

    func makeSeed() async throws {
        guard let format = annotations.seedFormat else { return }
        let (order, path, user) = (self, names.seed, user)
        try await OwnThread.run {
            try Seed(try order.seedRequest(), format: format).write(to: path)
            guard chown(path, user.uid, user.gid) == 0 else { throw SwiftletError.system("chown \(path)") }
        }
    }

    private static let memoryCommand =
        "[ -w /sys/devices/system/memory/auto_online_blocks ] && echo online_movable >/sys/devices/system/memory/auto_online_blocks"

    private func seedRequest() throws -> SeedRequest {
        var request = SeedRequest(
            pod: pod.metadata, hostname: pod.effectiveHostname, annotations: annotations,
            data: try annotations.seedData(from: plan.spec.mounts), network: network)
        if let dns = pod.dns { request.dns = dns }
        if root != nil { request.bootCommands.append(PersistentRoot.networkCommand) }
        // Linux leaves memory that was plugged in unused unless it is told.
        if growth != nil { request.bootCommands.append(Self.memoryCommand) }
        request.environment = plan.spec.environment.map { RawText(bytes: Array("\($0.key)=".utf8) + $0.value.bytes) }
        request.shares = try shared.map { shared in
            GuestShare(
                tag: MachineShare.tag, subPath: "\(names.container)/\(shared.index)", path: shared.mount.containerPath,
                isReadOnly: shared.mount.readOnly, isFile: !(try HostPath(shared.mount.hostPath).isDirectory))
        }
        request.disks =
            annotations.dataVolumes.map { GuestDisk($0, bus: annotations.diskBus) }
            + blockDevices.map { _, device in
                GuestDisk(
                    serial: bus.serial(of: Self.name(of: device)), bus: annotations.diskBus, devicePath: device.containerPath)
            }
        if toolsDisk != nil { request.bootCommands += AgentStart.commands }
        return request
    }

    // MARK: Machine

    var machine: MachineSpec {
        var devices: [MachineDevice] = [.disk(rootDisk)]
        if annotations.seedFormat != nil {
            devices.append(.disk(DiskSpec(path: names.seed, serial: "seed", readOnly: true, bus: .virtio)))
        }
        if let toolsDisk { devices.append(.disk(toolsDisk)) }
        devices += dataDisks.map { .disk($0) }
        devices += [
            .console(ConsoleSpec(log: names.console, socket: names.consoleSocket)),
            .channel(ChannelSpec(name: ChannelSpec.guestAgent, socket: names.guestAgentSocket)), .random, .balloon, .panic,
        ]
        for (number, interface) in network.interfaces.enumerated() {
            devices.append(.interface(InterfaceSpec(tap: names.tap(number), mac: interface.mac, mtu: interface.mtu)))
        }
        if annotations.agent == .auto { devices.append(.vsock(configuration.vsock.device(names.vsock(user)))) }
        if annotations.hasTPM { devices.append(.tpm(TPMSpec(socket: names.tpmSocket))) }
        if let action = annotations.watchdog { devices.append(.watchdog(action)) }
        switch annotations.graphics {
        case .none: break
        case .vnc: devices.append(.display(DisplaySpec(vncSocket: names.vncSocket)))
        case .virgl: devices.append(.display(DisplaySpec(vncSocket: names.vncSocket, renderNode: names.renderNode)))
        }
        let uuid = annotations.systemUUID.flatMap { UUID(uuidString: $0) } ?? UUID(uuidString: pod.metadata.uid)
        return MachineSpec(
            id: names.machine, name: names.domain,
            shape: MachineShape(
                memoryBytes: extent.memoryBytes, vcpus: extent.vcpus, growth: growth, accelerator: configuration.accelerator),
            boot: annotations.firmware == .uefi ? .firmware(code: UEFIFirmware().code, variables: names.variables) : .disk,
            devices: devices, user: user, reboot: annotations.reboot,
            identity: SystemIdentity(uuid: uuid), processor: annotations.cpu.map { ProcessorSpec($0) } ?? ProcessorSpec())
    }
}

extension ProcessorSpec {
    init(_ setting: CPUSetting) {
        let model: Model =
            switch setting.mode {
            case .maximum: .maximum
            case .hostModel: .hostModel
            case .hostPassthrough: .hostPassthrough
            case .custom: .named(setting.model ?? "")
            }
        self.init(model: model, features: setting.features.map { Feature($0.name, Policy($0.policy)) })
    }
}

extension ProcessorSpec.Policy {
    init(_ policy: CPUSetting.Feature.Policy) {
        switch policy {
        case .force: self = .force
        case .require: self = .require
        case .optional: self = .optional
        case .disable: self = .disable
        case .forbid: self = .forbid
        }
    }
}
