import CLinux
import CloudInit
import Errors
import Glibc
import Linux
import PodMachine
import Runtime
import State

/// A root disk that outlives its machine and is on a volume of the pod's.
enum PersistentRoot: Sendable {
    /// A block volume that the container has at /.
    case device(ContainerDevice)
    /// The file of this name in a mount, which the guest does not see otherwise. KubeVirt's volumes have it there.
    case file(ContainerMount)

    static let fileName = "disk.img"
    /// UEFI's variables and the TPM's state beside it, or in a volume of their own.
    static let variablesName = "nvram.fd"
    static let tpmName = "tpm.state"

    /// - Returns: nil for a container whose root disk goes with it.
    /// - Throws: `.invalidArgument`, `.failedPrecondition` naming the device or the annotation.
    init?(of spec: ContainerSpec, _ annotations: VMAnnotations) throws {
        let devices = spec.security.devices.filter { $0.containerPath == "/" }
        guard devices.count + (annotations.rootVolume == nil ? 0 : 1) <= 1 else {
            throw SwiftletError(
                .invalidArgument,
                "config.devices and \(Self.annotation): \(devices.count) devices are at /"
                    + (annotations.rootVolume.map { ", and the annotation names \(quoted($0))" } ?? "") + "; a machine has one root disk")
        }
        if let path = annotations.rootVolume {
            guard let mount = spec.mounts.first(where: { annotations.isRootVolume($0) }) else {
                throw SwiftletError(.invalidArgument, "\(Self.annotation): \(quoted(path)) is none of the container's mounts")
            }
            guard !mount.readOnly, !mount.hostPath.isEmpty else {
                throw SwiftletError(
                    .failedPrecondition, "\(Self.annotation): the mount at \(quoted(path)) is read-only, or no directory of the node")
            }
            self = .file(mount)
            return
        }
        guard let device = devices.first else { return nil }
        guard device.access.contains("w") else {
            throw SwiftletError(
                .failedPrecondition, "config.devices: \(quoted(device.hostPath)) at /: a machine cannot boot from a read-only volume")
        }
        self = .device(device)
    }

    static let annotation = "swiftlet/root-volume"
    static let stateAnnotation = "swiftlet/state-volume"

    /// The volume that keeps what a machine has beside its root disk.
    ///
    /// - Parameter root: whose volume keeps it where no other is named.
    /// - Returns: nil where it goes with the container.
    /// - Throws: `.invalidArgument`, `.failedPrecondition` naming the annotation.
    static func stateVolume(of spec: ContainerSpec, _ annotations: VMAnnotations, beside root: PersistentRoot?) throws -> ContainerMount? {
        guard let path = annotations.stateVolume else {
            if case .file(let mount) = root { return mount }
            return nil
        }
        guard annotations.hasTPM || annotations.firmware == .uefi else {
            throw SwiftletError(
                .invalidArgument,
                "\(stateAnnotation): a machine with neither a TPM nor UEFI (swiftlet/tpm, swiftlet/firmware) has nothing to keep")
        }
        guard let mount = spec.mounts.first(where: { annotations.isStateVolume($0) }) else {
            throw SwiftletError(.invalidArgument, "\(stateAnnotation): \(quoted(path)) is none of the container's mounts")
        }
        guard !mount.readOnly, !mount.hostPath.isEmpty else {
            throw SwiftletError(
                .failedPrecondition, "\(stateAnnotation): the mount at \(quoted(path)) is read-only, or no directory of the node")
        }
        return mount
    }

    /// With an instance that is kept, cloud-init would keep the network of its first pod: it is to look at each boot.
    static let networkCommand =
        "[ -d /etc/cloud/cloud.cfg.d ] && echo 'updates: {network: {when: [boot-new-instance, boot]}}' "
        + ">/etc/cloud/cloud.cfg.d/99-swiftlet-network.cfg"

    /// What cloud-init knows the instance by: the same for each pod of one name, so that its users and host keys are kept with its disk. As
    /// Virtlet wrote it.
    static func instanceID(of pod: SandboxSpec.Metadata) -> String { "\(pod.name).\(pod.namespace)" }
}

extension RootDiskKey {
    /// Blocks.
    ///
    /// - Throws: `.invalidArgument` for what is no block device.
    init(device path: String) throws {
        var status = stat()
        guard stat(path, &status) == 0 else { throw SwiftletError.system("block device \(path)") }
        guard status.st_mode & S_IFMT == S_IFBLK else { throw SwiftletError(.invalidArgument, "\(path) is not a block device") }
        self.init(name: "device \(status.st_rdev)", description: "device \(path)")
    }
}

extension VMRecord {
    /// The root disk's path.
    var rootDisk: String? { machine.disks.first { $0.serial == "root" }?.path }
}
