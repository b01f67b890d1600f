import CLinux
import Errors
import Glibc
import Runtime

/// What of a container is known of its place on the node when its bundle is made.
struct ContainerPlace: Sendable {
    var pod: SandboxSpec
    var names: HostNames
    var container: String
    var user: ContainerUser
    /// The pod's network namespace; nil: the node's.
    var networkNamespace: String?
    /// The process whose PID or IPC namespace the container joins; nil where it joins none.
    var pidTarget: Int32?
    var ipcTarget: Int32?
    /// As config.json has it.
    var cgroupsPath: String
    /// Of the node, for what a container asks for.
    var devices: [RuntimeSpec.Device]
    /// Rules for them.
    var deviceRules: [RuntimeSpec.DeviceRule]
    var isUnifiedCgroup: Bool
    /// What is seen of the images of mounts that have one, by the mount's index.
    var images: [Int: String] = [:]
    /// Nil: SELinux does not confine it.
    var labels: SELinux.Labels?
    /// Containers of a pod are known to the runtime by the pod's id.
    var namesPod = true
}

extension RuntimeSpec {
    /// - Throws: `.invalidArgument` or `.unimplemented` naming the field that cannot be had.
    init(_ plan: ContainerPlan, _ place: ContainerPlace) throws {
        try Self.check(plan, place)
        let spec = plan.spec
        let bundle = place.names.bundle(place.container)
        root = Root(path: bundle.root, readonly: spec.readonlyRoot)
        process = Process(
            terminal: spec.terminal, user: Self.user(place.user), args: plan.arguments,
            env: try plan.environment.map(Self.text), cwd: plan.workingDirectory, capabilities: Self.capabilities(spec),
            noNewPrivileges: spec.noNewPrivileges && !spec.privileged, oomScoreAdj: spec.oomScoreAdjustment,
            apparmorProfile: Self.appArmorProfile(spec), selinuxLabel: place.labels?.process)
        mounts = Self.standardMounts(spec, place) + Self.mounts(spec, place)
        linux = Linux(
            namespaces: Self.namespaces(spec, place), devices: place.devices, resources: Self.resources(spec, place),
            cgroupsPath: place.cgroupsPath, rootfsPropagation: Self.rootPropagation(spec.mounts),
            maskedPaths: spec.privileged ? [] : spec.maskedPaths, readonlyPaths: spec.privileged ? [] : spec.readonlyPaths,
            sysctl: place.pod.sysctls, seccomp: try plan.seccomp.map { try Self.seccomp($0, plan) },
            mountLabel: place.labels?.file)
        guard place.namesPod else {
            annotations = [:]
            return
        }
        annotations = [
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": place.names.pod,
            "io.kubernetes.cri.sandbox-namespace": place.pod.metadata.namespace, "io.kubernetes.cri.sandbox-name": place.pod.metadata.name,
            "io.kubernetes.cri.container-name": spec.metadata.name,
        ]
    }

    /// What is not built yet is refused by its field.
    private static func check(_ plan: ContainerPlan, _ place: ContainerPlace) throws {
        let spec = plan.spec
        for mount in spec.mounts {
            let field = "config.mounts \(quoted(mount.containerPath))"
            if mount.mappings != nil {
                throw SwiftletError(
                    .unimplemented, "\(field): uidMappings and gidMappings: containers on the node have no idmapped mounts yet")
            }
        }
        if spec.pidMode == .pod, !place.pod.sharesPidNamespace {
            throw SwiftletError(
                .invalidArgument,
                "config.linux.security_context.namespace_options.pid: the pod was made without a PID namespace for its containers; use "
                    + "CONTAINER, TARGET or NODE")
        }
        if !spec.resources.unified.isEmpty, !place.isUnifiedCgroup {
            throw SwiftletError(.failedPrecondition, "config.linux.resources.unified: the node's control groups are not version 2")
        }
    }

    static func text(_ entry: RawText) throws -> String {
        guard let text = String(validating: entry.bytes, as: UTF8.self) else {
            let name = String(decoding: entry.bytes.prefix { $0 != UInt8(ascii: "=") }, as: UTF8.self)
            throw SwiftletError(
                .invalidArgument, "config.envs \(quoted(name)): its value is no UTF-8, which the OCI runtimes of the node take alone")
        }
        return text
    }

    /// Of one's own; what is privileged is not confined.
    static func appArmorProfile(_ spec: ContainerSpec) -> String? { spec.privileged ? nil : spec.security.policies?.appArmorProfile }

    /// Written for this container; what is privileged is not confined.
    static func selinuxOptions(_ spec: ContainerSpec) -> SELinuxOptions? { spec.privileged ? nil : spec.security.policies?.selinux }

    static func user(_ user: ContainerUser) -> User {
        User(uid: user.uid, gid: user.gid, additionalGids: user.groups.filter { $0 != user.gid })
    }

    static func capabilities(_ spec: ContainerSpec) -> CapabilitySets {
        var held = Capability.held(spec.capabilities, privileged: spec.privileged)
        // "All" is what the node has to give: a daemon in a container, say, has less than the kernel knows.
        if held.count == Capability.all.count { held = held.filter(isOnNode) }
        let ambient = Capability.qualified(spec.capabilities.ambient).filter(held.contains)
        return CapabilitySets(bounding: held, effective: held, permitted: held, inheritable: ambient, ambient: ambient)
    }

    /// Whether it is in the daemon's own bounding set (capabilities(7)): a runtime can give no other.
    private static func isOnNode(_ capability: String) -> Bool {
        guard let number = Capability.all.firstIndex(of: capability) else { return false }
        return clinux_prctl(PR_CAPBSET_READ, UInt(number), 0, 0, 0) == 1
    }

    private static func namespaces(_ spec: ContainerSpec, _ place: ContainerPlace) -> [Namespace] {
        var namespaces = [Namespace(type: "mount")]
        if let path = place.networkNamespace {
            namespaces += [Namespace(type: "network", path: path), Namespace(type: "uts", path: place.names.namespace(.uts))]
        }
        switch spec.security.ipcMode {
        case .pod: namespaces.append(Namespace(type: "ipc", path: place.names.namespace(.ipc)))
        case .container: namespaces.append(Namespace(type: "ipc"))
        case .target: namespaces.append(Namespace(type: "ipc", path: place.ipcTarget.map { "/proc/\($0)/ns/ipc" }))
        case .node: break
        }
        switch spec.pidMode {
        case .container: namespaces.append(Namespace(type: "pid"))
        case .pod: namespaces.append(Namespace(type: "pid", path: place.names.namespace(.pid)))
        case .target: namespaces.append(Namespace(type: "pid", path: place.pidTarget.map { "/proc/\($0)/ns/pid" }))
        case .node: break
        }
        // Version 1 has no delegation to hide, and runtimes bind its hierarchies one by one.
        if place.isUnifiedCgroup, !spec.privileged { namespaces.append(Namespace(type: "cgroup")) }
        return namespaces
    }

    // MARK: Mounts

    private static func standardMounts(_ spec: ContainerSpec, _ place: ContainerPlace) -> [Mount] {
        let access = spec.privileged ? "rw" : "ro"
        var mounts = [
            Mount(destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"]),
            Mount(destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            Mount(
                destination: "/dev/pts", type: "devpts", source: "devpts",
                options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            Mount(destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"]),
            Mount(destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", access]),
            Mount(
                destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "relatime", access]),
        ]
        let taken = Set(spec.mounts.map(\.containerPath))
        func bind(_ source: String, _ destination: String, _ options: [String]) {
            guard !taken.contains(destination) else { return }
            mounts.append(Mount(destination: destination, type: "bind", source: source, options: options))
        }
        switch spec.security.ipcMode {
        case .pod, .target: bind(place.names.sharedMemory, "/dev/shm", ["rbind", "nosuid", "nodev", "noexec"])
        case .node: bind("/dev/shm", "/dev/shm", ["rbind", "nosuid", "nodev", "noexec"])
        case .container:
            if !taken.contains("/dev/shm") {
                mounts.append(
                    Mount(
                        destination: "/dev/shm", type: "tmpfs", source: "shm",
                        options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]))
            }
        }
        for name in ["hosts", "hostname", "resolv.conf"] {
            // They lie on the node, where nothing bounds what is written to them.
            bind(place.names.file(name), "/etc/\(name)", ["rbind", "rprivate", "ro"])
        }
        return mounts
    }

    /// A mount is made after those that it lies in.
    private static func mounts(_ spec: ContainerSpec, _ place: ContainerPlace) -> [Mount] {
        let ordered = spec.mounts.enumerated().sorted { ($0.element.depth, $0.offset) < ($1.element.depth, $1.offset) }
        return ordered.map { index, mount in
            if let source = place.images[index] {
                return Mount(
                    destination: mount.containerPath, type: "bind", source: source,
                    options: ["rbind", "rprivate", "ro", "nodev"] + mount.options)
            }
            let propagation =
                switch mount.propagation {
                case .none: "rprivate"
                case .hostToContainer: "rslave"
                case .bidirectional: "rshared"
                }
            let access = mount.recursiveReadOnly ? ["ro", "rro"] : mount.readOnly ? ["ro"] : ["rw"]
            return Mount(
                destination: mount.containerPath, type: "bind", source: mount.hostPath,
                options: ["rbind", propagation] + access + mount.options)
        }
    }

    /// What reaches a container's mounts comes by its root.
    private static func rootPropagation(_ mounts: [ContainerMount]) -> String {
        if mounts.contains(where: { $0.propagation == .bidirectional }) { return "rshared" }
        return mounts.contains { $0.propagation == .hostToContainer } ? "rslave" : "rprivate"
    }

    // MARK: Resources

    private static func resources(_ spec: ContainerSpec, _ place: ContainerPlace) -> Resources {
        var resources = resources(spec.resources)
        let all = DeviceRule(allow: spec.privileged, access: "rwm")
        resources.devices = spec.privileged ? [all] : [all] + place.deviceRules
        return resources
    }

    static func resources(_ limits: LinuxResources) -> Resources {
        func said(_ value: Int64) -> Int64? { value == 0 ? nil : value }
        var resources = Resources()
        let memory = Memory(limit: said(limits.memoryLimit), swap: said(limits.memorySwapLimit))
        if memory != Memory() { resources.memory = memory }
        let cpu = CPU(
            shares: said(limits.cpuShares), quota: said(limits.cpuQuota), period: said(limits.cpuPeriod),
            cpus: limits.cpusetCPUs.isEmpty ? nil : limits.cpusetCPUs,
            mems: limits.cpusetMemoryNodes.isEmpty ? nil : limits.cpusetMemoryNodes)
        if cpu != CPU() { resources.cpu = cpu }
        if !limits.hugepageLimits.isEmpty {
            resources.hugepageLimits = limits.hugepageLimits.map { HugepageLimit(pageSize: $0.pageSize, limit: $0.limit) }
        }
        if !limits.unified.isEmpty { resources.unified = limits.unified }
        return resources
    }

    // MARK: Seccomp

    private static func seccomp(_ plan: SeccompPlan, _ container: ContainerPlan) throws -> Seccomp {
        switch plan {
        case .runtimeDefault: return Seccomp(defaultFor: Set(capabilities(container.spec).bounding))
        case .profile(let document, let path):
            do {
                return try Seccomp(document, held: Set(capabilities(container.spec).bounding))
            } catch {
                throw SwiftletError.wrap(error, "seccomp profile \(path)")
            }
        }
    }
}
