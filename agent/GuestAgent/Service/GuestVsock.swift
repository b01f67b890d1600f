import CLinux
import Errors
import Glibc

/// The vsock device of a guest that is not the agent's own.
enum GuestVsock {
    /// Loads the driver where the guest has it as a module that nothing has asked for yet.
    ///
    /// - Returns: the guest's context id; nil without a device.
    static func prepare() -> UInt32? {
        if let cid = contextID() { return cid }
        modprobe("vmw_vsock_virtio_transport")
        return contextID()
    }

    /// IOCTL_VM_SOCKETS_GET_LOCAL_CID, _IO(7, 0xb9) of linux/vm_sockets.h.
    private static let getLocalCID: UInt = 0x7B9

    /// The socket family alone is there without a device as well, and its loopback: these have the ids 2^32 - 1 and 1.
    private static func contextID() -> UInt32? {
        let device = open("/dev/vsock", O_RDONLY | O_CLOEXEC)
        guard device >= 0 else { return nil }
        defer { close(device) }
        var cid: UInt32 = .max
        guard ioctl(device, getLocalCID, &cid) == 0, cid > 2, cid != .max else { return nil }
        return cid
    }

    private static func modprobe(_ module: String) {
        guard let null = try? OwnedDescriptor(result: open("/dev/null", O_RDWR | O_CLOEXEC), "open /dev/null") else { return }
        let streams = ProcessDescriptors(stdin: null.number, stdout: null.number, stderr: null.number, terminal: false)
        guard let pid = try? GuestProcesses.spawn(["modprobe", "-q", module], GuestProcesses.environment(terminal: false), streams) else {
            return
        }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    }
}
