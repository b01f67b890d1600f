import AgentProtocol
import CContainer
import Errors
import Glibc
import Linux

/// What the cgroup of an unprivileged container lets its processes do with devices. Nodes can be made for every device, but
/// only these can be opened.
struct DeviceAccess {
    /// Bits of linux/bpf.h, BPF_DEVCG_ACC_*.
    private static let make: UInt32 = 1
    private static let read: UInt32 = 2
    private static let write: UInt32 = 4

    /// Most devices that a container may ask for.
    private static let mostDevices = 200

    private(set) var rules: [cc_device_rule]

    /// The standard devices, terminals, and those of the spec.
    /// - Throws: `.invalidArgument` naming the device with an access other than letters of "rwm".
    init(_ devices: [AgentDeviceSpec]) throws(SwiftletError) {
        let readWrite = Self.read | Self.write
        rules = [
            cc_device_rule(block: false, major: -1, minor: -1, access: Self.make),
            cc_device_rule(block: true, major: -1, minor: -1, access: Self.make),
        ]
        for device in StandardTree.standardDevices {
            rules.append(cc_device_rule(block: false, major: Int32(device.major), minor: Int32(device.minor), access: readWrite))
        }
        // /dev/console, /dev/ptmx and the slaves below /dev/pts (Documentation/admin-guide/devices.txt).
        for (major, minor) in [(5, 1), (5, 2), (136, -1)] as [(Int32, Int32)] {
            rules.append(cc_device_rule(block: false, major: major, minor: minor, access: readWrite))
        }
        guard devices.count <= Self.mostDevices else {
            throw SwiftletError(.invalidArgument, "\(devices.count) devices; a container may have \(Self.mostDevices)")
        }
        for device in devices {
            rules.append(
                cc_device_rule(
                    block: device.type == "b", major: Int32(clamping: device.major), minor: Int32(clamping: device.minor),
                    access: try Self.access(device)))
        }
    }

    private static func access(_ device: AgentDeviceSpec) throws(SwiftletError) -> UInt32 {
        guard !device.access.isEmpty else { return make | read | write }
        var access: UInt32 = 0
        for letter in device.access {
            switch letter {
            case "m": access |= make
            case "r": access |= read
            case "w": access |= write
            default:
                throw SwiftletError(
                    .invalidArgument,
                    "device \(printable(device.path)): access \"\(printable(device.access))\" is more than letters of \"rwm\"")
            }
        }
        return access
    }

    /// Puts the rules in force for all processes that are ever in the cgroup.
    func restrict(_ cgroup: OwnedDescriptor) throws(SwiftletError) {
        guard cc_restrict_devices(cgroup.number, rules, UInt32(rules.count)) == 0 else {
            throw .system("restrict the devices of the container's cgroup")
        }
    }
}
