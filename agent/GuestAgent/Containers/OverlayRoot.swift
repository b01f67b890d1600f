import AgentProtocol
import CContainer
import Errors
import Glibc
import Linux

/// A container's root: its layers, read-only, below a writable directory on the scratch disk.
///
/// The overlay is kept as a detached mount, so that nothing stands in the agent's own tree and closing the last descriptor
/// unmounts it. It keeps its layers mounted itself; a layer disk that two containers use is one superblock of the kernel,
/// which goes with its last user.
final class OverlayRoot: Sendable {
    /// The container's directory on the scratch disk.
    let directory: String
    /// The detached mount.
    let tree: OwnedDescriptor

    /// A page of mount options holds about 230 layers named by descriptor.
    static let mostLayers = 200

    var attachPoint: String { "\(directory)/root" }
    var hostnameFile: String { "\(directory)/hostname" }
    /// The mount point of a /dev/shm that no other container shares.
    var ownSharedMemory: String { "\(directory)/shm" }

    /// - Throws: `.alreadyExists`; errors of the layer disks and of mount(2), after everything has been undone.
    /// - Parameter namespace: the user namespace that the image's owners are ids of; nil: the guest's own.
    init(
        id: String, layers: [AgentLayerDisk], environment: SandboxEnvironment, namespace: UserNamespace?
    ) throws(SwiftletError) {
        let containers = "\(environment.scratchDirectory)/containers"
        try makeDirectory(containers, mode: 0o711)
        directory = "\(containers)/\(id)"
        guard try makeDirectory(directory, mode: 0o711) else {
            throw SwiftletError(.alreadyExists, "container \(id) has files on the scratch disk: delete it first")
        }
        do throws(SwiftletError) {
            tree = try Self.build(directory, layers: layers, environment: environment, namespace: namespace)
            try SmallFile.create("\(directory)/hostname", holding: environment.hostname + "\n")
        } catch {
            _ = Self.discard(directory, environment)
            throw error.during("root of container \(id)")
        }
    }

    /// - Returns: whether the directory is gone from its place.
    static func discard(_ directory: String, _ environment: SandboxEnvironment) -> Bool {
        ScratchTrash.discard(directory, trash: "\(environment.scratchDirectory)/trash")
    }

    private static func build(
        _ directory: String, layers: [AgentLayerDisk], environment: SandboxEnvironment, namespace: UserNamespace?
    ) throws(SwiftletError) -> OwnedDescriptor {
        for name in ["upper", "work", "root", "lower"] { try makeDirectory("\(directory)/\(name)") }
        var mounted: [String] = []
        defer { for path in mounted { cc_unmount(path) } }
        var lower: [OwnedDescriptor] = []
        for (index, layer) in layers.enumerated() {
            let device = try environment.diskPath(layer.serial)
            let path = "\(directory)/lower/\(index)"
            try makeDirectory(path)
            guard cc_mount_readonly(device, path, layer.filesystem) == 0 else {
                throw .system("mount layer \(printable(layer.serial)) (\(device), \(layer.filesystem))")
            }
            mounted.append(path)
            if let namespace {
                guard cc_map_mount(path, namespace.file.number) == 0 else {
                    throw .system("show layer \(printable(layer.serial)) with the ids of the pod's user namespace")
                }
                mounted.append(path)
            }
            lower.append(try openDirectory(path))
        }
        let upper = try openDirectory("\(directory)/upper")
        let work = try openDirectory("\(directory)/work")
        if let top = lower.last { try copyOwnership(from: top, to: upper) }
        // Named by descriptor: no length or character of a path can upset the options. Volatile: the scratch disk does not
        // outlive the VM, so a container's fsync need not reach it.
        let stack = lower.reversed().map(\.path).joined(separator: ":")
        let options = "lowerdir=\(stack),upperdir=\(upper.path),workdir=\(work.path),volatile"
        guard cc_mount_overlay("\(directory)/root", options) == 0 else { throw .system("mount overlay of \(layers.count) layers") }
        defer { cc_unmount("\(directory)/root") }
        return try OwnedDescriptor(result: cc_clone_tree("\(directory)/root"), "detach the overlay")
    }

    private static func openDirectory(_ path: String) throws(SwiftletError) -> OwnedDescriptor {
        try OwnedDescriptor(result: open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open \(path)")
    }

    /// "/" of the container has the mode and owner that its image says.
    private static func copyOwnership(from layer: OwnedDescriptor, to upper: OwnedDescriptor) throws(SwiftletError) {
        var status = stat()
        guard fstat(layer.number, &status) == 0, fchown(upper.number, status.st_uid, status.st_gid) == 0,
            fchmod(upper.number, status.st_mode & 0o7777) == 0
        else { throw .system("copy the owner of the image's root") }
    }
}
