import AgentProtocol
import CContainer
import Errors
import Glibc
import Linux
import Synchronization

/// What the containers of one pod share in the guest: /dev/shm, the cgroup above them, a PID namespace held by a pause
/// process, and the way to find each other's processes. Each part is made when the first container needs it.
public final class PodSharedState: Sendable {
    private struct State {
        var sharedMemory: String?
        var cgroup: String?
        var userNamespace: UserNamespace?
        /// The running containers, by id.
        var running: [String: RunningContainer] = [:]
    }

    private let scratchDirectory: String
    private let cgroupRoot: String
    private let state = Mutex(State())
    /// The process that holds the PID namespace. A lock of its own, held while the process starts.
    private let pause = Mutex<(pid: pid_t, process: OwnedDescriptor)?>(nil)

    /// Bytes of the pod's /dev/shm, as container runtimes give it.
    private static let sharedMemorySize = "65536k"

    public init(scratchDirectory: String, cgroupRoot: String) {
        self.scratchDirectory = scratchDirectory
        self.cgroupRoot = cgroupRoot
    }

    /// The cgroup that holds those of the containers.
    func containersCgroup() throws(SwiftletError) -> String {
        try state.withLock { (state) throws(SwiftletError) in
            if let path = state.cgroup { return path }
            let path = try ContainerCgroup.makeParent(root: cgroupRoot)
            state.cgroup = path
            return path
        }
    }

    /// A directory with the pod's tmpfs.
    func sharedMemoryDirectory() throws(SwiftletError) -> String {
        try state.withLock { (state) throws(SwiftletError) in
            if let path = state.sharedMemory { return path }
            let path = "\(scratchDirectory)/shm"
            try makeDirectory(path)
            try Self.mountSharedMemory(path)
            state.sharedMemory = path
            return path
        }
    }

    /// Mounts a new tmpfs for a /dev/shm.
    static func mountSharedMemory(_ path: String) throws(SwiftletError) {
        guard cc_mount_tmpfs(path, "mode=1777,size=\(sharedMemorySize)") == 0 else { throw .system("mount a /dev/shm at \(path)") }
    }

    /// A process of the pod's PID namespace. A pause process that has died is replaced; what it held has died with it.
    func podNamespaceProcess() throws(SwiftletError) -> OwnedDescriptor {
        try pause.withLock { (pause) throws(SwiftletError) in
            if let pause, !hasExited(pause.process) { return pause.process }
            let directory = "\(scratchDirectory)/pause"
            try makeDirectory(directory)
            var pid: pid_t = 0
            var process: Int32 = -1
            guard cc_pause(directory, &pid, &process) == 0 else { throw .system("start the process that holds the pod's PID namespace") }
            let opened = OwnedDescriptor(process)
            pause = (pid, opened)
            return opened
        }
    }

    /// The pod's user namespace.
    /// - Throws: `.invalidArgument` for mappings other than those of its first container.
    func userNamespace(_ spec: AgentUserNamespace) throws(SwiftletError) -> UserNamespace {
        try state.withLock { (state) throws(SwiftletError) in
            if let known = state.userNamespace {
                guard known.matches(spec) else {
                    throw SwiftletError(.invalidArgument, "user namespace: the pod's containers have other mappings")
                }
                return known
            }
            let namespace = try UserNamespace(spec)
            state.userNamespace = namespace
            return namespace
        }
    }

    /// A running container whose namespaces another one joins.
    /// - Throws: `.failedPrecondition` when there is none.
    func running(_ container: String) throws(SwiftletError) -> RunningContainer {
        guard let running = state.withLock({ $0.running[container] }), !hasExited(running.process) else {
            throw SwiftletError(.failedPrecondition, "container \(container), whose namespaces are to be shared, is not running")
        }
        return running
    }

    func register(_ running: RunningContainer, as container: String) { state.withLock { $0.running[container] = running } }

    func unregister(_ container: String) { state.withLock { $0.running[container] = nil } }

    /// Ends the pause process and unmounts /dev/shm. Call it after the containers' own releases. Idempotent.
    public func release() {
        pause.withLock { pause in
            guard let held = pause else { return }
            cc_signal(held.process.number, SIGKILL)
            waitForExit(held.process, milliseconds: 5000)
            var status: Int32 = 0
            waitpid(held.pid, &status, WNOHANG)
            pause = nil
            rmdir("\(scratchDirectory)/pause")
        }
        state.withLock { state in
            if let path = state.sharedMemory {
                cc_unmount(path)
                rmdir(path)
                state.sharedMemory = nil
            }
            if let path = state.cgroup, rmdir(path) == 0 { state.cgroup = nil }
        }
    }
}

/// What others join of a running container.
struct RunningContainer: Sendable {
    /// Its first process.
    var process: OwnedDescriptor
    /// The directory that it sees as /dev/shm.
    var sharedMemory: String
}

/// Whether the process of a pidfd has ended.
func hasExited(_ process: OwnedDescriptor) -> Bool { waitForExit(process, milliseconds: 0) }

@discardableResult
func waitForExit(_ process: OwnedDescriptor, milliseconds: Int32) -> Bool {
    var waited = pollfd(fd: process.number, events: Int16(POLLIN), revents: 0)
    return poll(&waited, 1, milliseconds) > 0
}
