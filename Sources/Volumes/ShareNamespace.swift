import CLinux
import Errors
import Glibc
import Linux

/// The mount namespace of a share's virtiofsd, the only one that a share's mounts are in.
///
/// In the node's own, a directory that a container's mount covers could neither be removed nor renamed there (EBUSY), nor its volume
/// be taken apart. Mounts of other namespaces keep nobody from that, and end with their directories.
public final class ShareNamespace: Sendable {
    private let descriptor: Int32
    /// Where the share is in it, without a slash at the end.
    private let root: String

    /// - Parameters:
    ///   - process: a virtiofsd that QEMU has connected to: it has made its namespace and its root then.
    ///   - root: where the share is in the namespace; a virtiofsd's root is the share.
    /// - Throws: `.unavailable` when the process has ended, or is in the caller's own namespace.
    public init(of process: ProcessIdentity, root: String = "") throws {
        let path = "/proc/\(process.pid)/ns/mnt"
        self.root = root
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SwiftletError.system("open the mount namespace of virtiofsd \(process.pid)") }
        var (own, other) = (stat(), stat())
        // Looked at after the opening: the number may be another process's by then.
        guard process.isAlive, stat("/proc/self/ns/mnt", &own) == 0, fstat(descriptor, &other) == 0, own.st_ino != other.st_ino else {
            close(descriptor)
            throw SwiftletError(.unavailable, "virtiofsd \(process.pid) has ended, or has no mount namespace of its own")
        }
    }

    deinit { close(descriptor) }

    /// CLONE_FS (sched.h): a thread that enters a mount namespace may share its root and working directory with no other.
    private static let cloneFS: Int32 = 0x200

    /// Mounts a detached tree. On a thread of its own, which stays in the namespace: never one of a pool. Blocks.
    ///
    /// - Parameter place: relative to the share.
    func attach(_ tree: Int32, at place: String) throws {
        guard clinux_unshare(Self.cloneFS) == 0, clinux_setns(descriptor, Int32(CLINUX_CLONE_NEWNS)) == 0 else {
            throw SwiftletError.system("enter virtiofsd's mount namespace")
        }
        guard clinux_attach_tree(tree, "\(root)/\(place)") == 0 else { throw SwiftletError.system("mount it in the pod's share") }
    }
}
