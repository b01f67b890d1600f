import CloudInit
import Foundation
import GuestHardware
import Machines
import PodMachine
import Runtime

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
    /// That keeps the TPM's state and UEFI's variables; nil: they go with the container.
    let stateVolume: ContainerMount?
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
        stateVolume = try PersistentRoot.stateVolume(of: plan.spec, annotations, beside: root)
        if root != nil, annotations.instanceID == nil { annotations.instanceID = PersistentRoot.instanceID(of: pod.metadata) }
        self.annotations = annotations
    }

    var bus: DiskBus { annotations.diskBus }

    // MARK: Size

    var extent: MachineExtent {
        configuration.extent(for: plan.spec.resources, memory: annotations.memory, vcpus: annotations.vcpus)
    }

    /// The emulator cannot be given vCPUs.
    var growth: MachineExtent? {
        let memory = min(annotations.mostMemory ?? 0, configuration.maximumMemory)
        let vcpus = configuration.accelerator == .kvm ? annotations.mostVCPUs ?? 0 : 0
        guard memory > extent.memoryBytes || vcpus > extent.vcpus else { return nil }
        return MachineExtent(memoryBytes: max(memory / (1 << 20) * (1 << 20), extent.memoryBytes), vcpus: max(vcpus, extent.vcpus))
    }

    /// What a change of the container's limits may change.
    var sizing: VMRecord.Sizing { VMRecord.Sizing(memory: annotations.memory == nil, vcpus: annotations.vcpus == nil) }

    // MARK: Mounts

    /// What a machine has of its own, and the kubelet mounts in every container.
    private static let ownFiles: Set = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log", "/dev/shm"]

    /// Mounts that the guest gets by virtiofs.
    var shared: [VMRecord.Mount] {
        plan.spec.mounts.enumerated().filter { _, mount in
            !mount.hostPath.isEmpty && !Self.ownFiles.contains(mount.containerPath) && !annotations.isSeeded(mount)
                && !annotations.isRootVolume(mount) && !annotations.isStateVolume(mount)
        }.map { VMRecord.Mount(index: $0, mount: $1) }
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
