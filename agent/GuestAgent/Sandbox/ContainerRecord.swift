import AgentProtocol
import Errors
import Glibc
import Linux
import Synchronization

/// A container and its processes from the host's CreateContainer to its DeleteContainer.
final class ContainerRecord: Sendable {
    let id: String
    let container: any PodContainer
    let first: GuestProcess
    private let reaper: Reaper
    private let workers: WorkerPool
    private let loop: EventLoop
    private let victims: MemoryVictims
    /// Before any of its processes.
    private let beginning: MemoryVictims.Position
    private let execs = Mutex<[String: GuestProcess]>([:])
    /// Whose first process is not the agent's.
    private let isGuest: Bool

    /// Further processes that a host may have running or not yet deleted.
    private static let execLimit = 1024

    init(
        id: String, process: AgentProcessSpec, container: any PodContainer, reaper: Reaper, victims: MemoryVictims, workers: WorkerPool,
        loop: EventLoop
    ) {
        self.victims = victims
        beginning = victims.position()
        self.id = id
        self.container = container
        self.reaper = reaper
        self.workers = workers
        self.loop = loop
        isGuest = false
        first = GuestProcess(id: "", spec: process, loop: loop)
    }

    /// The guest itself, where it is not the agent's own.
    init(guest: any PodContainer, reaper: Reaper, victims: MemoryVictims, workers: WorkerPool, loop: EventLoop) {
        self.victims = victims
        beginning = victims.position()
        id = AgentContract.guestContainer
        container = guest
        self.reaper = reaper
        self.workers = workers
        self.loop = loop
        isGuest = true
        first = GuestProcess(running: 1, loop: loop)
    }

    /// Makes the container up to its start.
    func prepare() throws(SwiftletError) -> ResolvedUser {
        // One that ends before its start is reaped all the same.
        defer { reaper.noticeChildren() }
        return try first.prepare { descriptors throws(SwiftletError) in try container.prepare(stdio: descriptors) }
    }

    /// Runs the first process.
    func start() throws(SwiftletError) -> pid_t {
        try first.start(reaper: reaper) { () throws(SwiftletError) in
            try container.start()
        } wasKilledForMemory: { [self] in
            wasKilledForMemory($0)
        } exited: { [container, workers] in
            // With a PID namespace of the pod the others do not die by themselves.
            workers.run { try? container.signalAll(SIGKILL) }
        }
    }

    /// Enters a further process; ``run(_:_:inherit:)`` starts it.
    ///
    /// - Throws: `.alreadyExists`; `.invalidArgument` for an empty id or one of more than 128 bytes; `.resourceExhausted`;
    ///   `.failedPrecondition` when the first process does not run.
    func enter(_ id: String, _ spec: AgentProcessSpec) throws(SwiftletError) -> GuestProcess {
        guard (1...128).contains(id.utf8.count), !id.utf8.contains(0) else {
            throw SwiftletError(.invalidArgument, "process id of \(id.utf8.count) bytes is not 1 to 128 bytes long")
        }
        guard first.runningPid != nil else {
            throw SwiftletError(.failedPrecondition, "container \(self.id) is not running")
        }
        let process = GuestProcess(id: id, spec: spec, loop: loop)
        try execs.withLock { execs throws(SwiftletError) in
            guard execs[id] == nil else { throw SwiftletError(.alreadyExists, "process \(id) of container \(self.id)") }
            guard execs.count < Self.execLimit else {
                throw SwiftletError(.resourceExhausted, "container \(self.id) already has \(Self.execLimit) further processes")
            }
            execs[id] = process
        }
        return process
    }

    /// Runs an entered process; one that cannot be started stays entered.
    func run(_ process: GuestProcess, _ spec: AgentProcessSpec, inherit: Bool) throws(SwiftletError) -> pid_t {
        try process.start(reaper: reaper, openTerminal: container.openTerminal) { descriptors throws(SwiftletError) in
            try container.exec(spec, inherit: inherit, stdio: descriptors)
        } wasKilledForMemory: { [self] in
            wasKilledForMemory($0)
        } exited: {
        }
    }

    /// Whether the kernel has killed this process for lack of memory, not another of its container.
    private func wasKilledForMemory(_ exit: ProcessExit) -> Bool {
        guard exit.code == UInt32(128 + SIGKILL), container.oomKillCount > 0 else { return false }
        return victims.contain(exit.pid, since: beginning) ?? true
    }

    /// The first process for an empty id.
    func process(_ id: String) throws(SwiftletError) -> GuestProcess {
        guard !isGuest || !id.isEmpty else {
            throw SwiftletError(.failedPrecondition, "process 1 of the guest is its own: name one of Exec")
        }
        guard let process = id.isEmpty ? first : execs.withLock({ $0[id] }) else {
            throw SwiftletError(.notFound, "process \(printable(id)) of container \(self.id)")
        }
        return process
    }

    /// Takes a further process out; nil when there is none.
    func remove(_ id: String) -> GuestProcess? { execs.withLock { $0.removeValue(forKey: id) } }

    /// Takes this further process out, unless another has its id by now.
    func remove(_ process: GuestProcess) {
        execs.withLock { if $0[process.id] === process { $0[process.id] = nil } }
    }

    var processes: [GuestProcess] { [first] + execs.withLock { Array($0.values) } }

    var summary: AgentContainerState {
        var summary = AgentContainerState()
        summary.containerID = id
        summary.process = first.summary
        summary.execs = execs.withLock { Array($0.values) }.map(\.summary)
        return summary
    }
}
