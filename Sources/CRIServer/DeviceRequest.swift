import CRI
import Errors
import Glibc
import Pods
import Runtime

/// Validates a Device. A machine's devices are its own: only those that every node has, and every guest as well, can be given.
enum DeviceRequest {
    private static let field = "config.devices"

    /// Paths and numbers that node and guest have in common (Documentation/admin-guide/devices.txt).
    private static let common: [String: (major: UInt32, minor: UInt32)] = [
        "/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/full": (1, 7), "/dev/random": (1, 8), "/dev/urandom": (1, 9), "/dev/tty": (5, 0),
        "/dev/fuse": (10, 229), "/dev/net/tun": (10, 200),
    ]

    /// - Throws: `.invalidArgument` for a malformed or absent device; `.unimplemented` for one that cannot enter a machine.
    static func device(_ device: CRIDevice) throws -> GuestDevice {
        try Validation.absolutePath(device.hostPath, "\(field).host_path")
        try Validation.absolutePath(device.containerPath, "\(field).container_path")
        let access = device.permissions.isEmpty ? "rwm" : device.permissions
        guard access.allSatisfy({ "rwm".contains($0) }), Set(access).count == access.count else {
            throw SwiftletError(
                .invalidArgument, "\(field).permissions \(quoted(device.permissions)) is more than letters of \"rwm\"")
        }
        guard let number = common[device.hostPath] else {
            // Below /dev there is no file system that could keep the daemon waiting.
            if device.hostPath.hasPrefix("/dev/"), Glibc.access(device.hostPath, F_OK) != 0 {
                throw SwiftletError(.invalidArgument, "\(field): \(quoted(device.hostPath)) does not exist on the node")
            }
            throw SwiftletError(
                .unimplemented,
                "\(field): \(quoted(device.hostPath)): a device of the node cannot enter a virtual machine; "
                    + "those that every machine has are \(common.keys.sorted().joined(separator: ", "))")
        }
        return GuestDevice(path: device.containerPath, major: number.major, minor: number.minor, access: access)
    }
}
