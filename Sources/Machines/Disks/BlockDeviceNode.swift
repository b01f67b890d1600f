import Errors
import Glibc
import Linux

/// A machine's own node of a block device of the node.
///
/// QEMU runs as its pod's user, which must not be given the device under /dev that others use, and libvirt changes no owners.
public enum BlockDeviceNode {
    /// Bytes of a block device, which may have grown. Blocks for a moment.
    public static func size(of path: String) throws -> UInt64 {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard file >= 0 else { throw SwiftletError.system("open \(path)") }
        defer { close(file) }
        let end = lseek(file, 0, SEEK_END)
        guard end >= 0 else { throw SwiftletError.system("size of \(path)") }
        return UInt64(end)
    }

    /// Makes the node; one that is there is replaced. Blocks for the time of a few system calls.
    ///
    /// - Parameters:
    ///   - path: on a file system that is not mounted `nodev`.
    ///   - device: a block device, or a link to one.
    ///   - owner: of the node, which nobody else can open.
    /// - Throws: `invalidArgument` for what is no block device, `notFound`, `failedPrecondition` where nodes of devices cannot be opened.
    public static func create(_ path: String, of device: String, readOnly: Bool, owner: MachineUser) throws {
        try MachineSpec.checkPath(path)
        var status = stat()
        guard stat(device, &status) == 0 else { throw SwiftletError.system("block device \(device)") }
        guard status.st_mode & S_IFMT == S_IFBLK else { throw SwiftletError(.invalidArgument, "\(device) is not a block device") }
        guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
        // Nobody else opens it before its owner is right.
        guard mknod(path, S_IFBLK, status.st_rdev) == 0 else { throw SwiftletError.system("make a node of \(device) at \(path)") }
        do {
            guard lchown(path, owner.uid, owner.gid) == 0, chmod(path, readOnly ? 0o400 : 0o600) == 0 else {
                throw SwiftletError.system("prepare \(path)")
            }
            let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
            guard file >= 0 else {
                guard errno == EACCES else { throw SwiftletError.system("open \(path)") }
                throw SwiftletError(.failedPrecondition, "\(path) cannot be opened: its file system is mounted nodev")
            }
            close(file)
        } catch {
            unlink(path)
            throw error
        }
    }
}
