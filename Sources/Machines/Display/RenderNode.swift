import Errors
import Glibc

/// A machine's own node of a device that renders.
///
/// The node's own is open to the group `render`. QEMU is in one group alone, which is /dev/kvm's, and libvirt changes no owners: its user
/// is given the device by a node that nobody else can open.
public enum RenderNode {
    /// Nil for what is no render node: they are character devices of DRM's major, from minor 128 on (Linux'
    /// Documentation/admin-guide/devices.txt).
    static func status(of path: String) -> stat? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFCHR, (status.st_rdev >> 8) & 0xFFF == 226,
            status.st_rdev & 0xFF >= 128
        else { return nil }
        return status
    }

    /// Makes the node; one that is there is replaced. Blocks for the time of a few system calls.
    ///
    /// - Parameters:
    ///   - path: on a file system that is not mounted `nodev`.
    ///   - device: a render node, or a link to one.
    /// - Throws: `failedPrecondition` for what is no render node.
    public static func create(_ path: String, of device: String, owner: MachineUser) throws {
        try MachineSpec.checkPath(path)
        guard let status = status(of: device) else { throw SwiftletError(.failedPrecondition, "\(device) is no render node") }
        guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
        // Nobody else opens it before its owner is right.
        guard mknod(path, S_IFCHR, status.st_rdev) == 0 else { throw SwiftletError.system("make a node of \(device) at \(path)") }
        guard lchown(path, owner.uid, owner.gid) == 0, chmod(path, 0o600) == 0 else {
            let error = SwiftletError.system("prepare \(path)")
            unlink(path)
            throw error
        }
    }
}
