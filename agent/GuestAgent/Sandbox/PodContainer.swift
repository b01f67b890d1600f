import AgentProtocol
import Errors
import Glibc

/// What the agent needs of a container. Calls block; they come from several threads.
protocol PodContainer: Sendable {
    /// Makes what needs no devices, while those are awaited.
    func prepareEarly()
    /// Makes everything, the first process included, which does not run yet and is a child of the agent. The user is the
    /// spec's, looked up in the container's own files.
    func prepare(stdio: ProcessDescriptors) throws(SwiftletError) -> ResolvedUser
    /// Lets the first process run.
    func start() throws(SwiftletError) -> pid_t
    /// Runs a further process as a child of the agent.
    func exec(_ process: AgentProcessSpec, inherit: Bool, stdio: ProcessDescriptors) throws(SwiftletError) -> pid_t
    /// A terminal that a further process finds by name in the container; nil when it has none to give.
    func openTerminal() -> (master: Int32, slave: Int32)?
    /// Signals all processes of the container.
    func signalAll(_ signal: Int32) throws(SwiftletError)
    /// Changes the cgroup's limits: all of `files`, or none.
    func update(_ files: [String: String]) throws(SwiftletError)
    /// How often the kernel has killed a process of the container for lack of memory.
    var oomKillCount: UInt64 { get }
    /// Kills what is left and gives everything back. Idempotent.
    func release()
}

extension PodContainer {
    func prepareEarly() {}
}

extension GuestContainer: PodContainer {}
