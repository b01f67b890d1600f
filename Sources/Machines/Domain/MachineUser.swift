import Errors
import Glibc

/// Whom a machine's processes on the node run as.
public struct MachineUser: Sendable, Codable, Hashable {
    public var uid: UInt32
    public var gid: UInt32

    public init(uid: UInt32, gid: UInt32) {
        self.uid = uid
        self.gid = gid
    }

    /// The account that Debian's libvirt runs QEMU under where a domain has no label of its own, with the group that /dev/kvm has.
    ///
    /// - Throws: `failedPrecondition` without Debian's libvirt.
    public static func shared() throws -> MachineUser {
        guard let user = getpwnam("libvirt-qemu"), let group = getgrnam("kvm") else {
            throw SwiftletError(.failedPrecondition, "user libvirt-qemu or group kvm is missing; install Debian's libvirt-daemon-system")
        }
        return MachineUser(uid: user.pointee.pw_uid, gid: group.pointee.gr_gid)
    }
}
