import CRI
import Errors
import Glibc
import Pods
import Runtime

/// Validates a Device. Which ones a container may be given its pod's handler says.
enum DeviceRequest {
    private static let field = "config.devices"

    /// What a handler may have of its own, whether or not the node's own is there.
    private static let everywhere: Set = ["/dev/fuse", "/dev/net/tun"]

    /// - Throws: `.invalidArgument` for a malformed or absent device.
    static func device(_ device: CRIDevice) throws -> ContainerDevice {
        try Validation.absolutePath(device.hostPath, "\(field).host_path")
        try Validation.absolutePath(device.containerPath, "\(field).container_path")
        let access = device.permissions.isEmpty ? "rwm" : device.permissions
        guard access.allSatisfy({ "rwm".contains($0) }), Set(access).count == access.count else {
            throw SwiftletError(
                .invalidArgument, "\(field).permissions \(quoted(device.permissions)) is more than letters of \"rwm\"")
        }
        // Below /dev there is no file system that could keep the daemon waiting.
        if device.hostPath.hasPrefix("/dev/"), !everywhere.contains(device.hostPath), Glibc.access(device.hostPath, F_OK) != 0 {
            throw SwiftletError(.invalidArgument, "\(field): \(quoted(device.hostPath)) does not exist on the node")
        }
        return ContainerDevice(hostPath: device.hostPath, containerPath: device.containerPath, access: access)
    }

    /// More are no container's.
    private static let mostCDI = 256
    /// Of annotations that name devices, as device plug-ins of Kubernetes write them.
    private static let cdiPrefix = "cdi.k8s.io/"

    /// Those of the field, then those of annotations by their keys, each once.
    ///
    /// - Throws: `.invalidArgument` for a name that is not qualified.
    static func cdi(_ names: [String], _ annotations: [String: String]) throws -> [CDIDevice] {
        var named = names.map { ("config.CDI_devices", $0) }
        for (key, value) in annotations.sorted(by: { $0.key < $1.key }) where key.hasPrefix(cdiPrefix) {
            named += value.split(separator: ",", omittingEmptySubsequences: false).map { ("config.annotations \(key)", String($0)) }
        }
        guard named.count <= mostCDI else {
            throw SwiftletError(.invalidArgument, "config.CDI_devices: \(named.count) devices are more than \(mostCDI)")
        }
        var devices: [CDIDevice] = []
        for (field, name) in named {
            guard let device = CDIDevice(name) else {
                throw SwiftletError(.invalidArgument, "\(field): \(quoted(name)) is no CDI device's name, as vendor.com/class=name is")
            }
            if !devices.contains(device) { devices.append(device) }
        }
        return devices
    }
}
