import CLinux
import Glibc

/// Which of the two vsock devices this node gives its guests.
public enum VsockSupport: String, Sendable, Codable {
    /// The host kernel's, through /dev/vhost-vsock.
    case kernel
    /// A backend process per machine.
    case vhostUser

    /// Looks for the kernel's device. It must open and answer: a node may have the file without the module.
    ///
    /// - Parameter device: the device node, for tests.
    public static func detect(device: String = "/dev/vhost-vsock") -> VsockSupport {
        let descriptor = open(device, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return .vhostUser }
        defer { close(descriptor) }
        var information = stat()
        guard fstat(descriptor, &information) == 0, information.st_mode & S_IFMT == S_IFCHR else { return .vhostUser }
        // VHOST_GET_FEATURES, _IOR(0xAF, 0x00, __u64) of linux/vhost.h.
        var features: UInt64 = 0
        return ioctl(descriptor, 0x8008_AF00, &features) == 0 ? .kernel : .vhostUser
    }
}
