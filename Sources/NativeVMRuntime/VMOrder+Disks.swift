import CloudInit
import Concurrency
import Errors
import GuestHardware
import Machines
import Runtime

/// The machine's disks, and how those are made that are files.
extension VMOrder {
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
        if annotations.firmware == .uefi, stateVolume == nil {
            try await UEFIFirmware().makeVariables(names.variables, keep: false, owner: user)
        }
    }

    /// What volumes lend the machine.
    var lentFiles: [VMRecord.LentFile] {
        var files: [VMRecord.LentFile] = []
        if case .file(let mount) = root {
            files.append(
                .init(volume: mount.hostPath, name: PersistentRoot.fileName, place: names.rootImage, bytes: annotations.rootSize))
        }
        guard let volume = stateVolume?.hostPath else { return files }
        if annotations.firmware == .uefi {
            files.append(.init(volume: volume, name: PersistentRoot.variablesName, place: names.variables))
        }
        if annotations.hasTPM { files.append(.init(volume: volume, name: PersistentRoot.tpmName, place: names.lentTPM)) }
        return files
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
    var blockDevices: [(number: Int, device: ContainerDevice)] {
        plan.spec.security.devices.enumerated().map { ($0, $1) }.filter { $0.device.containerPath != "/" }
    }

    var rootDisk: DiskSpec {
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
    var toolsDisk: DiskSpec? {
        guard annotations.agent == .auto, let path = configuration.tools else { return nil }
        return DiskSpec(path: path, serial: AgentStart.serial, readOnly: true, bus: .virtio)
    }

    var dataDisks: [DiskSpec] {
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
    static func name(of device: ContainerDevice) -> String {
        device.containerPath.split(separator: "/").joined(separator: "-")
    }
}
