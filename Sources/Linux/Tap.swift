import CLinux
import Errors
import Glibc

/// Persistent tap devices: made before the VM, opened by QEMU, deleted by name.
public enum Tap {
    /// Makes a persistent tap, down, in the calling thread's network namespace, with virtio-net headers and one queue.
    ///
    /// - Parameters:
    ///   - uid: who may open it beside root.
    ///   - gid: the group that `uid` must be in as well; nil asks for none.
    /// - Throws: `alreadyExists` when a device has that name.
    public static func create(_ name: String, uid: uid_t, gid: gid_t? = nil) throws {
        let step = "creating tap \(try checkedLinkName(name))"
        let netlink = try RouteNetlink()
        guard try netlink.link(named: name) == nil else {
            throw SwiftletError(.alreadyExists, "\(step): a network interface of that name exists")
        }
        try ForkGate.hold {
            let descriptor = clinux_tun_attach(name, flags)
            guard descriptor >= 0 else { throw SwiftletError.system("\(step): /dev/net/tun") }
            // Until it is persistent, closing the descriptor removes the device: nothing to undo on the way.
            defer { close(descriptor) }
            guard clinux_tun_set_owner(descriptor, uid) == 0 else { throw SwiftletError.system("\(step): set the owner") }
            if let gid, clinux_tun_set_group(descriptor, gid) != 0 { throw SwiftletError.system("\(step): set the group") }
            guard clinux_tun_set_persist(descriptor, 1) == 0 else { throw SwiftletError.system("\(step): make it persistent") }
        }
    }

    /// Opens a tap of the calling thread's network namespace for reading and writing frames, non-blocking; each frame
    /// starts with a virtio_net_hdr of 10 bytes. The caller closes the descriptor.
    public static func attach(_ name: String) throws -> Int32 {
        guard try RouteNetlink().link(named: name) != nil else {
            throw SwiftletError(.notFound, "no tap is named \(name)")
        }
        let descriptor = clinux_tun_attach(name, flags)
        guard descriptor >= 0 else { throw SwiftletError.system("opening tap \(name)") }
        return descriptor
    }

    /// Deletes the tap of that name in the calling thread's network namespace; returns false when there is none.
    ///
    /// - Throws: `failedPrecondition` when the name belongs to a device of another kind.
    @discardableResult
    public static func delete(_ name: String) throws -> Bool {
        let netlink = try RouteNetlink()
        guard let link = try netlink.link(named: name) else { return false }
        guard link.kind == "tun" else {
            throw SwiftletError(.failedPrecondition, "network interface \(name) is no tap but \(link.kind ?? "a device"); not deleted")
        }
        do {
            try netlink.delete(link: link.index)
        } catch let error as SwiftletError where error.systemErrno == ENODEV {
            return false
        }
        return true
    }

    private static let flags = Int32(CLINUX_IFF_TAP | CLINUX_IFF_NO_PI | CLINUX_IFF_VNET_HDR)
}
