import CLinux
import Errors
import Glibc
import Linux
import Runtime

/// Devices of the node that a container gets.
enum DeviceNodes {
    private static let deepest = 4
    private static let most = 4096

    /// Those that the container asks for; all of the node for a privileged one. Blocks.
    ///
    /// - Returns: also the rules that let the container use them.
    static func find(_ spec: ContainerSpec) throws -> (devices: [RuntimeSpec.Device], rules: [RuntimeSpec.DeviceRule]) {
        var (devices, rules): ([RuntimeSpec.Device], [RuntimeSpec.DeviceRule]) = ([], [])
        if spec.privileged { devices = try all(in: "/dev", as: "/dev", depth: 0) }
        for asked in spec.security.devices {
            let found: [RuntimeSpec.Device]
            var status = stat()
            if stat(asked.hostPath, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
                found = try all(in: asked.hostPath, as: asked.containerPath, depth: 0)
            } else if let device = device(asked.hostPath, as: asked.containerPath) {
                found = [device]
            } else {
                throw SwiftletError(.invalidArgument, "config.devices: \(quoted(asked.hostPath)) is no device of the node")
            }
            let places = Set(found.map(\.path))
            devices.removeAll { places.contains($0.path) }
            devices += found
            rules += found.map { .init(allow: true, type: $0.type, major: $0.major, minor: $0.minor, access: asked.access) }
        }
        return (devices, rules)
    }

    /// - Returns: nil for what is no device of the node.
    static func device(_ path: String, as place: String) -> RuntimeSpec.Device? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        let type: String
        switch status.st_mode & S_IFMT {
        case S_IFCHR: type = "c"
        case S_IFBLK: type = "b"
        default: return nil
        }
        return RuntimeSpec.Device(
            path: place, type: type, major: major(status.st_rdev), minor: minor(status.st_rdev),
            fileMode: UInt32(status.st_mode & 0o777), uid: status.st_uid, gid: status.st_gid)
    }

    /// makedev(3), whose bits are where Linux has had room for them.
    private static func major(_ device: dev_t) -> UInt32 {
        UInt32((device >> 8) & 0xFFF) | UInt32(truncatingIfNeeded: (device >> 32) & ~0xFFF)
    }

    private static func minor(_ device: dev_t) -> UInt32 { UInt32(device & 0xFF) | UInt32(truncatingIfNeeded: (device >> 12) & ~0xFF) }

    /// What the container has of its own in /dev.
    private static let own: Set = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".udev", ".lxc", ".lxd-mounts"]

    private static func all(in directory: String, as place: String, depth: Int) throws -> [RuntimeSpec.Device] {
        var found: [RuntimeSpec.Device] = []
        for name in try KernelFile.names(in: directory).sorted() where depth > 0 || !own.contains(name) {
            let path = "\(directory)/\(name)"
            var status = stat()
            guard lstat(path, &status) == 0 else { continue }
            switch status.st_mode & S_IFMT {
            case S_IFDIR where depth < deepest: found += try all(in: path, as: "\(place)/\(name)", depth: depth + 1)
            case S_IFCHR, S_IFBLK: if let device = device(path, as: "\(place)/\(name)") { found.append(device) }
            default: continue
            }
            guard found.count <= most else {
                throw SwiftletError(.resourceExhausted, "the node has more than \(most) devices in \(directory)")
            }
        }
        return found
    }
}
