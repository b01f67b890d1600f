import AgentProtocol
import Errors
import Glibc
import Linux
import Synchronization

/// One process of a container, from before it starts until the host forgets it.
final class GuestProcess: Sendable {
    typealias Waiter = @Sendable (Result<AgentWaitResponse, SwiftletError>) -> Void

    private enum Phase {
        case created
        /// A start is under way.
        case starting
        case running(pid_t)
        case exited(pid_t, AgentWaitResponse)
        case deleted
    }

    private struct State {
        var phase = Phase.created
        /// The reaper has seen its end, so the pid may soon be another process's.
        var isReaped = false
        /// By who waits (a connection) and a number.
        var waiters: [(owner: ObjectIdentifier, Waiter)] = []
    }

    /// Empty for the container's first process.
    let id: String
    let output: ProcessOutput
    /// nil without standard input.
    let input: ProcessInput?
    private let spec: AgentProcessSpec
    private let state = Mutex(State())

    init(id: String, spec: AgentProcessSpec, loop: EventLoop) {
        self.id = id
        self.spec = spec
        output = ProcessOutput(loop: loop)
        input = spec.stdin ? ProcessInput(loop: loop, isTerminal: spec.terminal) : nil
    }

    /// One that runs and is nobody's child here: its end is never seen.
    init(running pid: pid_t, loop: EventLoop) {
        id = ""
        spec = AgentProcessSpec()
        output = ProcessOutput(loop: loop)
        input = nil
        state.withLock { $0.phase = .running(pid) }
    }

    /// Has `body` make the process ahead of its start, with standard input and output of its own.
    func prepare<Made>(_ body: (ProcessDescriptors) throws(SwiftletError) -> Made) throws(SwiftletError) -> Made {
        var stdio = try openStdio { nil }
        do throws(SwiftletError) {
            let made = try body(stdio.process)
            stdio.closeProcessEnds()
            try stdio.connect(output: output, input: input)
            return made
        } catch {
            stdio.closeAll()
            throw error
        }
    }

    private func openStdio(_ openTerminal: () -> (master: Int32, slave: Int32)?) throws(SwiftletError) -> Stdio {
        try Stdio(
            stdin: spec.stdin, terminal: spec.terminal ? TerminalSize(width: spec.terminalWidth, height: spec.terminalHeight) : nil,
            opening: openTerminal)
    }

    /// Starts the process once, with standard input and output of its own.
    ///
    /// - Parameters:
    ///   - openTerminal: opens the process's terminal, if it has one; nil for one of the guest's.
    ///   - launch: starts a child with these descriptors and gives its pid.
    ///   - wasKilledForMemory, exited: as of ``start(reaper:launch:wasKilledForMemory:exited:)``.
    /// - Throws: as that.
    func start(
        reaper: Reaper, openTerminal: () -> (master: Int32, slave: Int32)?,
        launch: (ProcessDescriptors) throws(SwiftletError) -> pid_t,
        wasKilledForMemory: @escaping @Sendable (ProcessExit) -> Bool, exited: @escaping @Sendable () -> Void
    ) throws(SwiftletError) -> pid_t {
        var stdio = try openStdio(openTerminal)
        defer { stdio.closeAll() }
        let descriptors = stdio.process
        let pid = try start(
            reaper: reaper, launch: { () throws(SwiftletError) in try launch(descriptors) }, wasKilledForMemory: wasKilledForMemory,
            exited: exited)
        stdio.closeProcessEnds()
        try stdio.connect(output: output, input: input)
        // One that has ended by now did so before anybody read its output: its children may hold that open all the same.
        if state.withLock({ $0.isReaped }) { output.processEnded() }
        return pid
    }

    /// Starts the process once.
    ///
    /// - Parameters:
    ///   - launch: starts a child, or one that ``prepare(_:)`` has made, and gives its pid.
    ///   - exited: called once after the exit is recorded; gives whether the process was killed for lack of memory.
    /// - Throws: `.failedPrecondition` unless it was never started; what `launch` throws, after which the process
    ///   counts as never started; `.aborted` when it was deleted meanwhile, after the child was killed.
    func start(
        reaper: Reaper, launch: () throws(SwiftletError) -> pid_t, wasKilledForMemory: @escaping @Sendable (ProcessExit) -> Bool,
        exited: @escaping @Sendable () -> Void
    ) throws(SwiftletError) -> pid_t {
        try begin()
        do {
            let pid = try reaper.launch(launch) { [self] exit in
                finish(exit, outOfMemory: wasKilledForMemory(exit))
                exited()
            }
            try state.withLock { state throws(SwiftletError) in
                if case .starting = state.phase { state.phase = .running(pid) }
                guard case .deleted = state.phase else { return }
                // Who deleted it had no pid to kill yet.
                if !state.isReaped { Glibc.kill(pid, SIGKILL) }
                throw SwiftletError(.aborted, "process \"\(id)\" was deleted while it was started")
            }
            return pid
        } catch {
            state.withLock { state in
                if case .starting = state.phase { state.phase = .created }
            }
            throw error
        }
    }

    private func begin() throws(SwiftletError) {
        try state.withLock { state throws(SwiftletError) in
            guard case .created = state.phase else {
                throw SwiftletError(.failedPrecondition, "process \"\(id)\" was started before")
            }
            state.phase = .starting
        }
    }

    private func finish(_ exit: ProcessExit, outOfMemory: Bool) {
        var answer = AgentWaitResponse()
        answer.exitCode = exit.code
        answer.exitedAtNs = exit.at
        answer.oomKilled = outOfMemory
        let waiters = state.withLock { state in
            state.isReaped = true
            switch state.phase {
            case .running(let pid): state.phase = .exited(pid, answer)
            // It ended before its launch returned.
            case .starting: state.phase = .exited(0, answer)
            case .created, .exited, .deleted: return [Waiter]()
            }
            defer { state.waiters = [] }
            return state.waiters.map(\.1)
        }
        input?.close()
        // With a container's first process all others end, and with them what they hold.
        if !id.isEmpty { output.processEnded() }
        for waiter in waiters { waiter(.success(answer)) }
    }

    /// The pid while it runs.
    var runningPid: pid_t? {
        state.withLock { state in
            if case .running(let pid) = state.phase { pid } else { nil }
        }
    }

    /// Sends a signal. Does nothing once the process has exited.
    ///
    /// - Throws: `.failedPrecondition` before it was started; `.invalidArgument` for no signal of this kernel.
    func signal(_ signal: Int32) throws(SwiftletError) {
        // Under the lock the pid cannot be reused: the reaper records an exit before it frees the pid.
        try state.withLock { state throws(SwiftletError) in
            switch state.phase {
            case .created, .starting: throw SwiftletError(.failedPrecondition, "process \"\(id)\" has not been started")
            case .exited, .deleted: return
            case .running(let pid):
                guard Glibc.kill(pid, signal) == 0 || errno == ESRCH else { throw .system("sending signal \(signal) to process \"\(id)\"") }
            }
        }
    }

    /// Kills the process if it runs, with those that it has begun and that have not left its process group, which is its own.
    func kill() {
        state.withLock { state in
            guard case .running(let pid) = state.phase else { return }
            Glibc.kill(-pid, SIGKILL)
            Glibc.kill(pid, SIGKILL)
        }
    }

    /// Calls `waiter` once: with the exit, now or later; with `.notFound` when the process is deleted before.
    ///
    /// - Parameter owner: for ``removeWaiters(of:)``.
    func wait(owner: ObjectIdentifier, _ waiter: @escaping Waiter) {
        let result = state.withLock { state -> Result<AgentWaitResponse, SwiftletError>? in
            switch state.phase {
            case .exited(_, let answer): return .success(answer)
            case .deleted: return .failure(deletedError)
            case .created, .starting, .running:
                state.waiters.append((owner, waiter))
                return nil
            }
        }
        if let result { waiter(result) }
    }

    /// Forgets the waiters of a lost connection.
    func removeWaiters(of owner: ObjectIdentifier) {
        state.withLock { state in state.waiters.removeAll { $0.owner == owner } }
    }

    /// Gives standard input to a connection.
    ///
    /// - Throws: `.failedPrecondition` without standard input.
    func attachInput(_ connection: ByteChannel) throws(SwiftletError) { try openInput().attach(connection) }

    /// - Throws: `.failedPrecondition` without standard input, or when it has ended.
    func checkInput() throws(SwiftletError) { try openInput().check() }

    private func openInput() throws(SwiftletError) -> ProcessInput {
        guard let input else { throw SwiftletError(.failedPrecondition, "process \"\(id)\" has no standard input") }
        return input
    }

    func resize(_ size: TerminalSize) throws(SwiftletError) {
        guard spec.terminal else { throw SwiftletError(.failedPrecondition, "process \"\(id)\" has no terminal") }
        _ = output.withTerminal { size.apply(to: $0) }
    }

    /// Ends all streams and waits. The process itself is killed by its container.
    func delete() {
        let waiters = state.withLock { state in
            state.phase = .deleted
            defer { state.waiters = [] }
            return state.waiters.map(\.1)
        }
        output.close()
        input?.close()
        for waiter in waiters { waiter(.failure(deletedError)) }
    }

    private var deletedError: SwiftletError { SwiftletError(.notFound, "process \"\(id)\" was deleted") }

    /// What the host needs to know after it has restarted.
    var summary: AgentProcessState {
        var summary = AgentProcessState()
        summary.processID = id
        summary.stdoutAcknowledged = output.acknowledged(.stdout)
        summary.stderrAcknowledged = output.acknowledged(.stderr)
        state.withLock { state in
            switch state.phase {
            case .created, .starting: summary.state = .created
            case .running(let pid):
                summary.state = .running
                summary.pid = UInt32(pid)
            case .exited(let pid, let exit):
                summary.state = .exited
                summary.pid = UInt32(pid)
                summary.exit = exit
            case .deleted: summary.state = .exited
            }
        }
        return summary
    }
}
