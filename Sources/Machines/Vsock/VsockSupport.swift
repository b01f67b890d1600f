import CLinux
import Glibc

/// Which of the two vsock devices this node gives its guests.
public enum VsockSupport: String, Sendable, Codable {
    /// The host kernel's, through /dev/vhost-vsock. Guests reach whoever listens on vsock on the node.
    case kernel
    /// A backend process per machine, which hands nothing of a guest to anybody who has not asked for it.
    case vhostUser

    /// Whether the kernel's device opens and answers: a node may have the file without the module.
    ///
    /// - Parameter device: the device node, for tests.
    public static func kernelAnswers(device: String = "/dev/vhost-vsock") -> Bool {
        let descriptor = open(device, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var information = stat()
        guard fstat(descriptor, &information) == 0, information.st_mode & S_IFMT == S_IFCHR else { return false }
        // VHOST_GET_FEATURES, _IOR(0xAF, 0x00, __u64) of linux/vhost.h.
        var features: UInt64 = 0
        return ioctl(descriptor, 0x8008_AF00, &features) == 0
    }
}
