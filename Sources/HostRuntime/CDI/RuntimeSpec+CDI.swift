import Errors
import Glibc

extension RuntimeSpec {
    /// Lays over this what comes with devices, in the order that the interface's own library has: of two values for one thing, the
    /// device's counts, and of two devices the later one's. Blocks.
    ///
    /// - Throws: `.failedPrecondition` naming what the node does not have.
    mutating func apply(_ edits: CDIEdits) throws {
        for entry in edits.env { setEnvironment(entry) }
        for node in edits.deviceNodes { try add(node) }
        for mount in edits.mounts { try add(mount) }
        // A mount is made after those that it lies in.
        if !edits.mounts.isEmpty {
            func depth(_ mount: Mount) -> Int { mount.destination.split(separator: "/").count }
            mounts = mounts.enumerated().sorted { (depth($0.element), $0.offset) < (depth($1.element), $1.offset) }.map(\.element)
        }
        for hook in edits.hooks { add(hook) }
        for group in edits.additionalGIDs where group != process.user.gid && !process.user.additionalGids.contains(group) {
            process.user.additionalGids.append(group)
        }
    }

    private mutating func setEnvironment(_ entry: String) {
        let name = entry.prefix { $0 != "=" } + "="
        process.env.removeAll { $0.hasPrefix(name) }
        process.env.append(entry)
    }

    private mutating func add(_ node: CDIEdits.DeviceNode) throws {
        // Another number is a wildcard to runtimes.
        var device = Device(
            path: node.path, type: node.type == "u" ? "c" : node.type ?? "", major: node.major ?? 0, minor: node.minor ?? 0,
            fileMode: node.fileMode ?? 0o666, uid: node.uid ?? process.user.uid, gid: node.gid ?? process.user.gid)
        if device.type != "p", device.type.isEmpty || node.major ?? 0 == 0 {
            let path = node.hostPath ?? node.path
            guard let found = DeviceNodes.device(path, as: node.path) else {
                throw SwiftletError(.failedPrecondition, "config.CDI_devices: deviceNodes: \(path) is no device of the node")
            }
            guard device.type.isEmpty || device.type == found.type else {
                throw SwiftletError(
                    .failedPrecondition,
                    "config.CDI_devices: deviceNodes: \(path) is of type \(found.type) on the node, and of type \(device.type) in its file")
            }
            (device.type, device.major, device.minor) = (found.type, found.major, found.minor)
        }
        linux.devices.removeAll { $0.path == device.path }
        linux.devices.append(device)
        let access = node.access ?? "rwm"
        guard device.type != "p", !access.isEmpty else { return }
        linux.resources.devices =
            (linux.resources.devices ?? []) + [
                DeviceRule(allow: true, type: device.type, major: device.major, minor: device.minor, access: access)
            ]
    }

    private mutating func add(_ mount: CDIEdits.Mount) throws {
        var options = mount.options
        if mount.isBind {
            guard access(mount.hostPath, F_OK) == 0 else {
                throw SwiftletError(.failedPrecondition, "config.CDI_devices: mounts: \(mount.hostPath) is not on the node")
            }
            if !options.contains(where: { $0 == "bind" || $0 == "rbind" }) { options.insert("rbind", at: 0) }
        }
        mounts.removeAll { $0.destination == mount.containerPath }
        mounts.append(Mount(destination: mount.containerPath, type: mount.type ?? "bind", source: mount.hostPath, options: options))
        if options.contains(where: { $0 == "shared" || $0 == "rshared" }) {
            linux.rootfsPropagation = "rshared"
        } else if options.contains(where: { $0 == "slave" || $0 == "rslave" }), linux.rootfsPropagation == "rprivate" {
            linux.rootfsPropagation = "rslave"
        }
    }

    private mutating func add(_ hook: CDIEdits.Hook) {
        var all = hooks ?? Hooks()
        let own = Hook(path: hook.path, args: hook.args, env: hook.env, timeout: hook.timeout)
        switch hook.name {
        case .prestart: all.prestart = (all.prestart ?? []) + [own]
        case .createRuntime: all.createRuntime = (all.createRuntime ?? []) + [own]
        case .createContainer: all.createContainer = (all.createContainer ?? []) + [own]
        case .startContainer: all.startContainer = (all.startContainer ?? []) + [own]
        case .poststart: all.poststart = (all.poststart ?? []) + [own]
        case .poststop: all.poststop = (all.poststop ?? []) + [own]
        }
        hooks = all
    }
}
