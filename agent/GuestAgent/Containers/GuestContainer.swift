import AgentProtocol
import CContainer
import Errors
import Glibc
import Synchronization

/// One container of the guest's pod: its root, cgroup, namespaces and processes.
///
/// Thread-safe. Every call blocks and belongs on a thread that may. `prepare` and `start` succeed once; `release` may come
/// at any moment, also in the middle of them, and leaves nothing behind.
///
/// The processes returned are direct children of the agent, which reaps them. With the first process's exit the container
/// takes no further ones; a container with its own PID namespace loses all others as well.
public final class GuestContainer: Sendable {
    private enum Phase {
        case created
        case preparing
        case prepared(PreparedContainer)
        case starting(PreparedContainer)
        case running(PreparedContainer, first: OwnedDescriptor)
        case released
    }

    private struct State {
        var phase = Phase.created
        /// Made before `prepare`, which takes it over.
        var early: ContainerCgroup?
        /// What a release could not remove yet.
        var leftover: [ContainerCgroup] = []
        var lastOOMKillCount: UInt64 = 0
    }

    public let id: String
    private let spec: AgentContainerSpec
    private let environment: SandboxEnvironment
    private let state = Mutex(State())
    /// The cgroup is made by one thread at a time.
    private let making = Mutex(())

    /// Checks everything that can be checked without touching the machine.
    /// - Throws: `.invalidArgument` naming what is wrong in the id, the spec or the environment.
    public init(id: String, spec: AgentContainerSpec, environment: SandboxEnvironment) throws(SwiftletError) {
        try requireContainerID(id)
        self.id = id
        self.spec = spec
        self.environment = environment
        do throws(SwiftletError) {
            _ = try containerPath(environment.scratchDirectory, "scratch directory")
            _ = try containerPath(environment.cgroupRoot, "cgroup root")
            try requireText(environment.hostname, "hostname", limit: 253)
            try Self.check(spec.root)
            for name in spec.resources.unified.keys { try ContainerCgroup.requireFileName(name) }
            _ = try ProcessPlan(spec.process)
            _ = try RootPlan(spec, environment: environment, hostnameFile: "/hostname", sharedMemory: "/shm")
            if spec.pidMode == .pidTarget { try requireContainerID(spec.pidTarget) }
            if spec.ipcMode == .ipcTarget { try requireContainerID(spec.ipcTarget) }
            if case .UNRECOGNIZED(let value) = spec.ipcMode {
                throw SwiftletError(.invalidArgument, "IPC mode \(value) is unknown to this agent")
            }
            if spec.hasUserNamespace {
                _ = try UserNamespace.mappings(spec.userNamespace.uids, "uids")
                _ = try UserNamespace.mappings(spec.userNamespace.gids, "gids")
            }
            if case .UNRECOGNIZED(let value) = spec.pidMode {
                throw SwiftletError(.invalidArgument, "PID mode \(value) is unknown to this agent")
            }
        } catch {
            throw error.during("container \(id)")
        }
    }

    private static func check(_ root: AgentRootFilesystem) throws(SwiftletError) {
        guard !root.layers.isEmpty, root.layers.count <= OverlayRoot.mostLayers else {
            throw SwiftletError(.invalidArgument, "a root has 1 to \(OverlayRoot.mostLayers) layers, this one \(root.layers.count)")
        }
        for layer in root.layers {
            guard layer.filesystem == "squashfs" || layer.filesystem == "erofs" else {
                throw SwiftletError(
                    .invalidArgument,
                    "layer \(printable(layer.serial)): filesystem \"\(printable(layer.filesystem))\" must be squashfs or erofs")
            }
            try requireText(layer.serial, "layer serial", limit: 256)
        }
    }

    /// Makes what needs none of the container's disks, while they are awaited. What fails here is tried again by `prepare`, which says why.
    public func prepareEarly() {
        making.withLock { _ in
            let isWanted = state.withLock { state in
                if case .created = state.phase { state.early == nil } else { false }
            }
            guard isWanted, let cgroup = try? PreparedContainer.makeCgroup(id, spec, environment) else { return }
            let isKept = state.withLock { state in
                guard case .created = state.phase else { return false }
                state.early = cgroup
                return true
            }
            if !isKept { _ = cgroup.remove() }
        }
    }

    /// Mounts the layers and the root, makes the cgroup, looks up the user, and creates the first process: it holds `stdio`
    /// from then on and waits for its start.
    /// - Throws: errors of each step, after everything has been undone; `.failedPrecondition` unless this is the first time, and
    ///   when a container it depends on is absent.
    public func prepare(stdio: ProcessDescriptors) throws(SwiftletError) -> ResolvedUser {
        let early = try making.withLock { (_) throws(SwiftletError) in
            try state.withLock { (state) throws(SwiftletError) in
                guard case .created = state.phase else { throw wrongPhase("prepare", state.phase) }
                state.phase = .preparing
                defer { state.early = nil }
                return state.early
            }
        }
        let prepared: PreparedContainer
        do throws(SwiftletError) {
            prepared = try PreparedContainer(id: id, spec, stdio, environment, early: early)
        } catch {
            state.withLock { state in
                if case .preparing = state.phase { state.phase = .created }
            }
            throw error.during("prepare container \(id)")
        }
        let wasReleased = state.withLock { state in
            guard case .preparing = state.phase else { return true }
            state.phase = .prepared(prepared)
            return false
        }
        if wasReleased {
            dismantle(prepared, first: nil)
            throw releasedMeanwhile("prepare")
        }
        return prepared.credentials.user
    }

    /// Runs the container's first process. - Returns: its pid in the agent's PID namespace.
    /// - Throws: `.notFound` for a command that does not exist, `.invalidArgument` for one that cannot be executed and for a
    ///   working directory that cannot be made, `.failedPrecondition` before `prepare`, after a first start, or when a
    ///   mount source is absent. Everything is undone: the container is as it was before `prepare`.
    public func start() throws(SwiftletError) -> pid_t {
        let prepared = try state.withLock { (state) throws(SwiftletError) in
            guard case .prepared(let prepared) = state.phase else { throw wrongPhase("start", state.phase) }
            state.phase = .starting(prepared)
            return prepared
        }
        let started: (pid: pid_t, process: OwnedDescriptor)
        do throws(SwiftletError) {
            started = try prepared.first.release()
        } catch {
            // A root that was attached is gone with the child's mount namespace: it cannot be attached again.
            dismantle(prepared, first: nil)
            state.withLock { state in
                if case .starting = state.phase { state.phase = .created }
            }
            throw error
        }
        let wasReleased = state.withLock { state in
            guard case .starting = state.phase else { return true }
            state.phase = .running(prepared, first: started.process)
            return false
        }
        if wasReleased {
            dismantle(prepared, first: started.process)
            throw releasedMeanwhile("start")
        }
        environment.shared.register(RunningContainer(process: started.process, sharedMemory: prepared.sharedMemory), as: id)
        return started.pid
    }

    /// A terminal of the running container's own /dev/pts for `exec`; nil when it has none. Both ends are the caller's.
    public func openTerminal() -> (master: Int32, slave: Int32)? {
        let prepared = state.withLock { state -> PreparedContainer? in
            if case .running(let prepared, first: _) = state.phase { prepared } else { nil }
        }
        guard let prepared else { return nil }
        var master: Int32 = -1
        var slave: Int32 = -1
        guard cc_open_terminal(prepared.root.tree.number, &master, &slave) == 0 else { return nil }
        return (master, slave)
    }

    /// Runs a further process in the container's namespaces and cgroup. - Returns: its pid in the agent's PID namespace.
    /// - Parameter inherit: take everything but the arguments from the container's own process.
    /// - Throws: as `start`; `.failedPrecondition` when the container's first process is not running.
    public func exec(_ process: AgentProcessSpec, inherit: Bool, stdio: ProcessDescriptors) throws(SwiftletError) -> pid_t {
        let (prepared, first) = try state.withLock { (state) throws(SwiftletError) in
            guard case .running(let prepared, let first) = state.phase else { throw wrongPhase("exec", state.phase) }
            return (prepared, first)
        }
        guard !hasExited(first) else {
            throw SwiftletError(.failedPrecondition, "the container's first process has ended")
        }
        var spec = process
        if inherit {
            spec = self.spec.process
            spec.args = process.args
            spec.terminal = process.terminal
        }
        let plan = try ProcessPlan(spec)
        var credentials = prepared.credentials
        if !inherit {
            credentials = try ProcessCredentials(plan, root: prepared.root.tree.number, namespace: credentials.namespace)
        }
        let memory = CMemory()
        let started = try Spawn.run(
            Spawn.Plan(
                process: plan.flat(credentials, stdio: stdio, memory: memory), memory: memory, userNamespace: credentials.namespace,
                cgroup: prepared.cgroup),
            in: first, of: id)
        let isRunning = state.withLock { state in
            if case .running = state.phase { true } else { false }
        }
        guard isRunning else {
            // Cloned after release had killed all it saw.
            cc_signal(started.process.number, SIGKILL)
            release()
            throw releasedMeanwhile("exec")
        }
        return started.pid
    }

    /// Sends a signal to every process of the container; one without processes is no error.
    /// - Throws: `.invalidArgument` for a number that is no signal, `.failedPrecondition` before `prepare`.
    public func signalAll(_ signal: Int32) throws(SwiftletError) {
        guard (1...64).contains(signal) else {
            throw SwiftletError(.invalidArgument, "signal container \(id): \(signal) is no signal, 1 to 64 are")
        }
        let cgroup = try state.withLock { (state) throws(SwiftletError) -> ContainerCgroup? in
            switch state.phase {
            case .prepared(let prepared), .starting(let prepared), .running(let prepared, first: _): return prepared.cgroup
            case .released: return nil
            case .created, .preparing: throw wrongPhase("signal", state.phase)
            }
        }
        guard let cgroup else { return }
        do throws(SwiftletError) {
            if signal == SIGKILL { try cgroup.killAll() } else { try cgroup.signalAll(signal) }
        } catch {
            throw error.during("signal container \(id)")
        }
    }

    /// Changes limits: all of `files`, or none.
    /// - Throws: `.invalidArgument` for a name that is no limit; `.failedPrecondition` before `prepare` and after the end of the
    ///   first process; as `CgroupChange.apply`.
    public func update(_ files: [String: String]) throws(SwiftletError) {
        for name in files.keys { try ContainerCgroup.requireFileName(name) }
        let (cgroup, first) = try state.withLock { (state) throws(SwiftletError) -> (ContainerCgroup, OwnedDescriptor?) in
            switch state.phase {
            case .prepared(let prepared), .starting(let prepared): return (prepared.cgroup, nil)
            case .running(let prepared, let first): return (prepared.cgroup, first)
            case .created, .preparing, .released: throw wrongPhase("update", state.phase)
            }
        }
        if let first, hasExited(first) { throw SwiftletError(.failedPrecondition, "update container \(id): its first process has ended") }
        do throws(SwiftletError) {
            try cgroup.change(files)
        } catch {
            throw error.during("update container \(id)")
        }
    }

    /// How often the kernel killed a process of this container for lack of memory, also after its release.
    public var oomKillCount: UInt64 {
        state.withLock { state in
            switch state.phase {
            case .prepared(let prepared), .starting(let prepared), .running(let prepared, first: _): prepared.cgroup.oomKillCount
            case .created, .preparing, .released: state.lastOOMKillCount
            }
        }
    }

    /// Kills what is left of the container and gives back everything it holds. Waits at most about ten seconds for processes
    /// that hang in the kernel; a further call tries again what could not be removed. Idempotent.
    public func release() {
        environment.shared.unregister(id)
        let (phase, early, leftover) = state.withLock { state in
            defer {
                state.phase = .released
                state.early = nil
                state.leftover = []
            }
            return (state.phase, state.early, state.leftover)
        }
        _ = early?.remove()
        for cgroup in leftover { killAndRemove(cgroup) }
        switch phase {
        case .prepared(let prepared): dismantle(prepared, first: nil)
        case .running(let prepared, let first): dismantle(prepared, first: first)
        // The thread inside start sees the new phase and dismantles; its child dies now.
        case .starting(let prepared): try? prepared.cgroup.killAll()
        case .created, .preparing, .released: break
        }
    }

    private func dismantle(_ prepared: PreparedContainer, first: OwnedDescriptor?) {
        // By itself as well: a privileged container may have moved its processes to other cgroups, but its PID namespace
        // ends with its first process.
        if let first { cc_signal(first.number, SIGKILL) }
        prepared.first.abandon()
        killAndRemove(prepared.cgroup)
        prepared.discard(environment)
    }

    /// Keeps what cannot be removed for the next release.
    private func killAndRemove(_ cgroup: ContainerCgroup) {
        // More than once: a process of exec may be cloned into the cgroup between the kill and the removal.
        for _ in 0..<5 {
            try? cgroup.killAll()
            guard cgroup.waitUntilEmpty() else { break }
            let kills = cgroup.oomKillCount
            state.withLock { $0.lastOOMKillCount = max($0.lastOOMKillCount, kills) }
            if cgroup.remove() { return }
        }
        state.withLock { $0.leftover.append(cgroup) }
    }

    private func wrongPhase(_ step: String, _ phase: Phase) -> SwiftletError {
        let reason =
            switch phase {
            case .created: "it is not prepared"
            case .preparing: "it is being prepared"
            case .prepared: "it is prepared and has not been started"
            case .starting: "it is being started"
            case .running: "it has been started"
            case .released: "it has been deleted"
            }
        return SwiftletError(.failedPrecondition, "\(step) container \(id): \(reason)")
    }

    private func releasedMeanwhile(_ step: String) -> SwiftletError {
        SwiftletError(.aborted, "\(step) container \(id): it was deleted meanwhile")
    }
}
