import AgentProtocol
import CContainer
import Errors
import Glibc

/// All that a container has before its start.
struct PreparedContainer: Sendable {
    let root: OverlayRoot
    let volumes: ContainerVolumes
    let cgroup: ContainerCgroup
    let credentials: ProcessCredentials
    /// The directory that the container sees as /dev/shm.
    let sharedMemory: String
    let first: HeldProcess
    /// No other container sees `sharedMemory`.
    private let ownsSharedMemory: Bool

    /// - Throws: errors of each step, after everything has been undone.
    /// - Parameter early: the container's cgroup, where it is made already.
    init(
        id: String, _ spec: AgentContainerSpec, _ stdio: ProcessDescriptors, _ environment: SandboxEnvironment, early: ContainerCgroup?
    ) throws(SwiftletError) {
        cgroup = if let early { early } else { try Self.makeCgroup(id, spec, environment) }
        ownsSharedMemory = spec.ipcMode == .ipcContainer
        var made: (root: OverlayRoot?, volumes: ContainerVolumes?)
        do throws(SwiftletError) {
            let namespace = spec.hasUserNamespace ? try environment.shared.userNamespace(spec.userNamespace) : nil
            root = try OverlayRoot(id: id, layers: spec.root.layers, environment: environment, namespace: namespace)
            made.root = root
            credentials = try ProcessCredentials(ProcessPlan(spec.process), root: root.tree.number, namespace: namespace)
            sharedMemory = try Self.sharedMemory(spec, root, environment)
            volumes = try ContainerVolumes(spec, directory: root.directory, environment: environment, namespace: namespace)
            made.volumes = volumes
            first = try Self.createFirst(id, spec, stdio, environment, (root, volumes, cgroup, credentials, sharedMemory))
        } catch {
            Self.discard(made.root, made.volumes, ownsSharedMemory: ownsSharedMemory, environment)
            _ = cgroup.remove()
            throw error
        }
    }

    /// Makes the cgroup with its limits and devices, which needs nothing of the container's disks.
    static func makeCgroup(
        _ id: String, _ spec: AgentContainerSpec, _ environment: SandboxEnvironment
    ) throws(SwiftletError) -> ContainerCgroup {
        let cgroup = try ContainerCgroup(parent: try environment.shared.containersCgroup(), id: id, files: spec.resources.unified)
        guard !spec.privileged else { return cgroup }
        do throws(SwiftletError) {
            try DeviceAccess(spec.devices).restrict(cgroup.directory)
        } catch {
            _ = cgroup.remove()
            throw error
        }
        return cgroup
    }

    private static func sharedMemory(
        _ spec: AgentContainerSpec, _ root: OverlayRoot, _ environment: SandboxEnvironment
    ) throws(SwiftletError) -> String {
        switch spec.ipcMode {
        case .ipcTarget: return try environment.shared.running(spec.ipcTarget).sharedMemory
        case .ipcContainer:
            let path = root.ownSharedMemory
            try makeDirectory(path)
            try PodSharedState.mountSharedMemory(path)
            return path
        default: return try environment.shared.sharedMemoryDirectory()
        }
    }

    private static func createFirst(
        _ id: String, _ spec: AgentContainerSpec, _ stdio: ProcessDescriptors, _ environment: SandboxEnvironment,
        _ made: (
            root: OverlayRoot, volumes: ContainerVolumes, cgroup: ContainerCgroup, credentials: ProcessCredentials, sharedMemory: String
        )
    ) throws(SwiftletError) -> HeldProcess {
        let process = try ProcessPlan(spec.process)
        var furnished = spec
        furnished.mounts = made.volumes.mounts
        let plan = try RootPlan(
            furnished, environment: environment, hostnameFile: made.root.hostnameFile, sharedMemory: made.sharedMemory)
        let pidNamespace: OwnedDescriptor? =
            switch spec.pidMode {
            case .pidPod: try environment.shared.podNamespaceProcess()
            case .pidTarget: try environment.shared.running(spec.pidTarget).process
            default: nil
            }
        let ipcNamespace = spec.ipcMode == .ipcTarget ? try environment.shared.running(spec.ipcTarget).process : nil
        let memory = CMemory()
        let console = stdio.terminal ? terminalPath(stdio.stdin) : nil
        let held = try Spawn.create(
            Spawn.Plan(
                process: process.flat(made.credentials, stdio: stdio, memory: memory), memory: memory,
                userNamespace: made.credentials.namespace, cgroup: made.cgroup),
            at: Spawn.Place(
                root: try plan.flat(root: made.root, console: console, memory: memory), pidNamespace: pidNamespace,
                ipcNamespace: ipcNamespace, newIPCNamespace: spec.ipcMode == .ipcContainer),
            of: id)
        return try HeldProcess(held, of: id)
    }

    /// The slave's name in the agent's /dev/pts.
    private static func terminalPath(_ descriptor: Int32) -> String? {
        var name = [CChar](repeating: 0, count: 64)
        guard ttyname_r(descriptor, &name, name.count) == 0 else { return nil }
        let path = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return path.hasPrefix("/dev/pts/") ? path : nil
    }

    /// Gives back everything but the cgroup, in which no process may be left.
    func discard(_ environment: SandboxEnvironment) {
        Self.discard(root, volumes, ownsSharedMemory: ownsSharedMemory, environment)
    }

    private static func discard(
        _ root: OverlayRoot?, _ volumes: ContainerVolumes?, ownsSharedMemory: Bool, _ environment: SandboxEnvironment
    ) {
        guard let root else { return }
        if ownsSharedMemory { cc_unmount(root.ownSharedMemory) }
        volumes?.release()
        _ = OverlayRoot.discard(root.directory, environment)
    }
}
