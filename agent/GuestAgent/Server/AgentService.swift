import AgentProtocol
import Errors
import Glibc
import Linux
import TTRPC

/// The agent's methods, each from its request to its answer.
///
/// Methods that only look at memory run on the event loop at once; those that may block run on the worker pool.
final class AgentService: TTRPCService {
    typealias MakeContainer = @Sendable (_ id: String, AgentContainerSpec, SandboxEnvironment) throws(SwiftletError) -> any PodContainer

    /// What differs between a guest and a test.
    struct Dependencies: Sendable {
        var makeContainer: MakeContainer
        var startSandbox: @Sendable (AgentStartSandboxRequest) throws(SwiftletError) -> SandboxEnvironment
        /// Ends the boot, and makes what containers are made in before there is a pod.
        var prepare: @Sendable (AgentPrepareRequest) throws(SwiftletError) -> SandboxEnvironment = { (_) throws(SwiftletError) in
            throw SwiftletError(.unimplemented, "this agent is not in a guest that waits for its pod")
        }
        var setTime: @Sendable (Int64) throws(SwiftletError) -> Void
        /// Runs after the answer to Shutdown was handed to the kernel.
        var powerOff: @Sendable () -> Void
        var info: @Sendable () -> AgentGetInfoResponse
        /// How long a further process may run with nobody connected to its output: who has started it is gone then.
        var execPatience = Duration.seconds(30)
        var grow: @Sendable (AgentGrowRequest) throws(SwiftletError) -> AgentGrowResponse = { (_) throws(SwiftletError) in
            throw SwiftletError(.unimplemented, "this agent is not in a guest that can grow")
        }
        /// A guest that is not the agent's own, as the one container that there is; nil: the agent makes containers.
        var guest: (any PodContainer)?
    }

    let dependencies: Dependencies
    let sandbox: SandboxState
    let containers = ContainerTable()
    let streams: StreamServer
    let ports: GuestPorts
    let reaper: Reaper
    let workers: WorkerPool
    let victims = MemoryVictims()
    let statistics: PodStatistics
    let loop: EventLoop

    init(dependencies: Dependencies, reaper: Reaper, streams: StreamServer, workers: WorkerPool, loop: EventLoop) {
        self.dependencies = dependencies
        self.streams = streams
        ports = GuestPorts(loop: loop)
        self.reaper = reaper
        self.workers = workers
        statistics = PodStatistics(layers: LayerSizes(workers: workers))
        self.loop = loop
        sandbox = SandboxState(start: dependencies.startSandbox)
        guard let guest = dependencies.guest else { return }
        containers.hold(ContainerRecord(guest: guest, reaper: reaper, victims: victims, workers: workers, loop: loop))
    }

    /// Forgets what a lost connection still waited for.
    func callerLost(_ caller: ObjectIdentifier) {
        for container in containers.all {
            for process in container.processes { process.removeWaiters(of: caller) }
        }
    }
}
