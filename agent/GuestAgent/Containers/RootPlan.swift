import AgentProtocol
import CContainer
import Errors

/// How a container's root is furnished, from its checked spec.
struct RootPlan {
    var tree: StandardTree
    var maskedPaths: [String]
    var readOnlyPaths: [String]
    var readOnly: Bool

    /// - Throws: `.invalidArgument` naming the field.
    init(_ spec: AgentContainerSpec, environment: SandboxEnvironment, hostnameFile: String, sharedMemory: String) throws(SwiftletError) {
        tree = try StandardTree(spec, environment: environment, hostnameFile: hostnameFile, sharedMemory: sharedMemory)
        maskedPaths = []
        readOnlyPaths = []
        readOnly = spec.root.readonly
        if spec.privileged { return }
        for path in spec.maskedPaths { maskedPaths.append(try containerPath(path, "masked path")) }
        for path in spec.readonlyPaths { readOnlyPaths.append(try containerPath(path, "read-only path")) }
        guard !maskedPaths.contains("/") else { throw SwiftletError(.invalidArgument, "the whole root cannot be masked") }
    }

    /// The flat form for the C code, in `memory`.
    /// - Parameter console: the terminal's path in the agent's /dev, which becomes /dev/console.
    func flat(root: OverlayRoot, console: String?, memory: CMemory) throws(SwiftletError) -> cc_root {
        var volumes = tree.volumes
        if let console {
            volumes.insert(try MountPlan(target: "/dev/console", source: console, filesystem: nil, options: ["nosuid", "noexec"]), at: 0)
        }
        let devices = tree.devices.map { device in
            cc_device(
                path: memory.string(device.path), mode: device.mode, major: device.major, minor: device.minor, uid: device.uid,
                gid: device.gid)
        }
        let links = tree.links.map { cc_link(path: memory.string($0.path), destination: memory.string($0.destination)) }
        return cc_root(
            tree: root.tree.number,
            attach_point: memory.string(root.attachPoint),
            mounts: memory.array(tree.mounts.map { $0.flat(memory) }),
            mount_count: UInt32(tree.mounts.count),
            devices: memory.array(devices),
            device_count: UInt32(devices.count),
            links: memory.array(links),
            link_count: UInt32(links.count),
            volumes: memory.array(volumes.map { $0.flat(memory) }),
            volume_count: UInt32(volumes.count),
            masked_paths: memory.vector(maskedPaths),
            masked_count: UInt32(maskedPaths.count),
            readonly_paths: memory.vector(readOnlyPaths),
            readonly_count: UInt32(readOnlyPaths.count),
            readonly: readOnly)
    }
}

extension MountPlan {
    func flat(_ memory: CMemory) -> cc_mount {
        let options = parameters.map { cc_option(key: memory.string($0.key), value: $0.value.map(memory.string)) }
        var flags: UInt32 = 0
        if recursive { flags |= CC_MOUNT_RECURSIVE.rawValue }
        if attributesRecursive { flags |= CC_MOUNT_ATTRIBUTES_RECURSIVE.rawValue }
        if refusesLinks { flags |= CC_MOUNT_TARGET_NO_LINKS.rawValue }
        if ifSupported { flags |= CC_MOUNT_IF_SUPPORTED.rawValue }
        if isOwn { flags |= CC_MOUNT_OWN.rawValue }
        return cc_mount(
            target: memory.string(target),
            source: source.map(memory.string),
            filesystem: filesystem.map(memory.string),
            options: memory.array(options),
            option_count: UInt32(options.count),
            flags: flags,
            attributes_set: attributesSet,
            attributes_cleared: attributesCleared,
            propagation: propagation)
    }
}
