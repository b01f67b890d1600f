import AgentProtocol
import Errors
import Glibc

/// What every container has in its root without asking: kernel filesystems, devices, links, the pod's name files.
struct StandardTree {
    struct Device: Sendable, Equatable {
        var path: String
        /// With S_IFCHR or S_IFBLK.
        var mode: UInt32
        var major: UInt32
        var minor: UInt32
        var uid: UInt32 = 0
        var gid: UInt32 = 0
    }

    /// Made first, in this order: /proc, /sys, /dev and below.
    var mounts: [MountPlan]
    var devices: [Device]
    /// Path and destination.
    var links: [(path: String, destination: String)]
    /// Made after the devices: the pod's files, then the spec's mounts.
    var volumes: [MountPlan]

    /// - Parameters:
    ///   - hostnameFile: what /etc/hostname shows.
    ///   - sharedMemory: the pod's /dev/shm.
    /// - Throws: `.invalidArgument` for what is wrong in the spec's mounts and devices.
    init(_ spec: AgentContainerSpec, environment: SandboxEnvironment, hostnameFile: String, sharedMemory: String) throws(SwiftletError) {
        var own: [MountPlan] = []
        let root = try Root(spec)
        for mount in spec.mounts { own.append(root.owning(try MountPlan(mount))) }
        let kernel = try Self.kernelMounts(privileged: spec.privileged, sharedMemory: sharedMemory).map(root.owning)
        let files = try Self.podFiles(environment, hostnameFile: hostnameFile, readOnly: spec.root.readonly)
        let replaced = Set(kernel.map(\.target))
        // A standard mount that the spec makes itself is the spec's, in the standard's place.
        mounts = kernel.map { standard in own.last { $0.target == standard.target } ?? standard }
        // A volume that is all of /etc comes below the pod's files, not above them.
        let below = own.filter { $0.target == "/etc" }
        own.removeAll { $0.target == "/etc" }
        let taken = Set(own.map(\.target)).union(below.map(\.target)).union(replaced)
        var ofImage: [MountPlan] = []
        for path in spec.volumes { ofImage.append(try MountPlan(volume: path)) }
        // The image's come first: what the pod mounts is below and above them as it says.
        ofImage.removeAll { $0.target == "/" || taken.contains($0.target) }
        let podFiles = files.filter { file in !own.contains { $0.target == file.target } }
        volumes = ofImage + below + podFiles + own.filter { !replaced.contains($0.target) }
        guard !volumes.contains(where: { $0.target == "/" }) else {
            throw SwiftletError(.invalidArgument, "mount destination \"/\" is the container's own root: choose a directory below it")
        }
        devices = spec.privileged ? [] : Self.standardDevices.map(root.owning)
        for device in spec.devices { devices.append(root.owning(try Self.device(device))) }
        links = Self.standardLinks
    }

    /// The container's root user as the guest calls it: who owns what is made for the container.
    private struct Root {
        var uid: UInt32 = 0
        var gid: UInt32 = 0
        /// gid 5 is the tty group of every distribution (devpts, Documentation/filesystems/devpts.rst).
        var terminals: UInt32 = 5

        init(_ spec: AgentContainerSpec) throws(SwiftletError) {
            guard spec.hasUserNamespace else { return }
            let uids = try UserNamespace.mappings(spec.userNamespace.uids, "uids")
            let gids = try UserNamespace.mappings(spec.userNamespace.gids, "gids")
            uid = uids.lazy.compactMap { $0.guestID(0) }.first ?? 0
            gid = gids.lazy.compactMap { $0.guestID(0) }.first ?? 0
            terminals = gids.lazy.compactMap { $0.guestID(5) }.first ?? gid
        }

        /// The mount with owners that no option names.
        func owning(_ mount: MountPlan) -> MountPlan {
            var mount = mount
            func own(_ key: String, _ id: UInt32) {
                if !mount.parameters.contains(where: { $0.key == key }) { mount.parameters.append(.init(key: key, value: String(id))) }
            }
            switch mount.filesystem {
            case "tmpfs" where uid != 0 || gid != 0:
                own("uid", uid)
                own("gid", gid)
            // devpts takes a signed number (fs/devpts/inode.c); without one, terminals have the group of who opens them.
            case "devpts" where terminals <= UInt32(Int32.max): own("gid", terminals)
            default: break
            }
            return mount
        }

        func owning(_ device: Device) -> Device {
            var device = device
            device.uid += uid
            device.gid += gid
            return device
        }
    }

    private static func kernelMounts(privileged: Bool, sharedMemory: String) throws(SwiftletError) -> [MountPlan] {
        let kernelOptions = ["nosuid", "nodev", "noexec"]
        let access = privileged ? "rw" : "ro"
        let dev: MountPlan =
            if privileged {
                try MountPlan(target: "/dev", source: "/dev", filesystem: nil)
            } else {
                try MountPlan(
                    target: "/dev", source: "tmpfs", filesystem: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"])
            }
        var mounts = [
            try MountPlan(target: "/proc", source: "proc", filesystem: "proc", options: kernelOptions),
            try MountPlan(target: "/sys", source: "sysfs", filesystem: "sysfs", options: kernelOptions + [access]),
            try MountPlan(target: "/sys/fs/cgroup", source: "cgroup", filesystem: "cgroup2", options: kernelOptions + [access]),
            dev,
            try MountPlan(
                target: "/dev/pts", source: "devpts", filesystem: "devpts",
                options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            try MountPlan(target: "/dev/shm", source: sharedMemory, filesystem: nil, options: ["nosuid", "nodev", "noexec"]),
            try MountPlan(target: "/dev/mqueue", source: "mqueue", filesystem: "mqueue", options: kernelOptions),
        ]
        for index in mounts.indices {
            mounts[index].refusesLinks = true
            mounts[index].ifSupported = mounts[index].filesystem == "mqueue"
        }
        return mounts
    }

    private static func podFiles(
        _ environment: SandboxEnvironment, hostnameFile: String, readOnly: Bool
    ) throws(SwiftletError) -> [MountPlan] {
        let options = ["nosuid", "nodev", readOnly ? "ro" : "rw"]
        return [
            try MountPlan(target: "/etc/resolv.conf", source: environment.resolvConfPath, filesystem: nil, options: options),
            try MountPlan(target: "/etc/hosts", source: environment.hostsPath, filesystem: nil, options: options),
            try MountPlan(target: "/etc/hostname", source: hostnameFile, filesystem: nil, options: options),
        ]
    }

    /// Numbers of Documentation/admin-guide/devices.txt.
    static let standardDevices = [
        Device(path: "/dev/null", mode: UInt32(S_IFCHR) | 0o666, major: 1, minor: 3),
        Device(path: "/dev/zero", mode: UInt32(S_IFCHR) | 0o666, major: 1, minor: 5),
        Device(path: "/dev/full", mode: UInt32(S_IFCHR) | 0o666, major: 1, minor: 7),
        Device(path: "/dev/random", mode: UInt32(S_IFCHR) | 0o666, major: 1, minor: 8),
        Device(path: "/dev/urandom", mode: UInt32(S_IFCHR) | 0o666, major: 1, minor: 9),
        Device(path: "/dev/tty", mode: UInt32(S_IFCHR) | 0o666, major: 5, minor: 0),
    ]

    private static let standardLinks = [
        (path: "/dev/ptmx", destination: "pts/ptmx"),
        (path: "/dev/fd", destination: "/proc/self/fd"),
        (path: "/dev/stdin", destination: "/proc/self/fd/0"),
        (path: "/dev/stdout", destination: "/proc/self/fd/1"),
        (path: "/dev/stderr", destination: "/proc/self/fd/2"),
        (path: "/dev/core", destination: "/proc/kcore"),
    ]

    private static func device(_ spec: AgentDeviceSpec) throws(SwiftletError) -> Device {
        let path = try containerPath(spec.path, "device path")
        let kind: UInt32
        switch spec.type {
        case "c", "u": kind = UInt32(S_IFCHR)
        case "b": kind = UInt32(S_IFBLK)
        default: throw SwiftletError(.invalidArgument, "device \(printable(path)): type \"\(printable(spec.type))\" must be 'c' or 'b'")
        }
        guard path != "/", spec.mode & ~0o7777 == 0 else {
            throw SwiftletError(.invalidArgument, "device \(printable(path)): path and mode must be those of a device file")
        }
        return Device(
            path: path, mode: kind | (spec.mode == 0 ? 0o666 : spec.mode), major: spec.major, minor: spec.minor, uid: spec.uid,
            gid: spec.gid)
    }
}
