/// Where a container's output is read: data, so that another process can open it.
public enum OutputEndpoint: Codable, Sendable, Hashable {
    /// The first process of a container whose guest's agent serves at this address.
    case agent(VsockAddress, container: String)
    /// The serial port of a machine. QEMU appends all that the guest writes to the file `log`, and serves one client at the unix socket
    /// `socket`, which is to be read from as long as it is connected: a client that does not read holds the guest. Both are root's.
    case console(log: String, socket: String)
    /// The first process of a container on the node, whose conmon writes its log itself.
    case conmon(ConmonEndpoint)
}

/// The conmon of a process on the node.
public struct ConmonEndpoint: Codable, Sendable, Hashable {
    /// The unix socket (SOCK_SEQPACKET) at whose clients the output comes and whose clients write the input; root's.
    public var socket: String
    /// The named pipe that takes the terminal's size; root's.
    public var control: String
    /// The process reads what clients write.
    public var hasInput: Bool

    public init(socket: String, control: String, hasInput: Bool) {
        (self.socket, self.control, self.hasInput) = (socket, control, hasInput)
    }
}

/// The log of one container.
public struct LogTarget: Codable, Sendable, Equatable {
    public var container: String
    /// Absolute; it must exist. Empty: the container has no log, and its output is read and dropped.
    public var directory: String
    /// Relative to `directory`.
    public var path: String
    /// How fast it grows at most; nil: as fast as it is written.
    public var budget: LogBudget?
    /// Nil: its file grows until somebody else renames it.
    public var rotation: LogRotation?
    /// Whose output it is; nil: not known.
    public var names: ContainerNames?
    /// Another process writes it: its lines are for collectors alone.
    public var isWritten = false

    public init(
        container: String, directory: String, path: String, budget: LogBudget? = nil, rotation: LogRotation? = nil,
        names: ContainerNames? = nil
    ) {
        self.container = container
        self.directory = directory
        self.path = path
        self.budget = budget
        self.rotation = rotation
        self.names = names
    }
}

/// Writes the containers' output to their logs. No byte of it passes through a pod.
public protocol ContainerOutput: Sendable {
    /// Opens the container's log, before there is anything to write. Does nothing for one that is open.
    ///
    /// - Throws: `.failedPrecondition` naming the file that cannot be opened; `.deadlineExceeded` when its disk does not answer.
    func open(_ log: LogTarget) async throws

    /// Copies the output to the open log from now on, until both of its sources end. Does nothing for one that is copied already.
    func follow(_ container: String, from endpoint: OutputEndpoint)

    /// Has the lines of a log that another process writes collected from now on, where lines are, until it is closed. Waits for nobody.
    func collect(_ log: LogTarget)

    /// Goes on in the file that the log's path names now.
    ///
    /// - Throws: `.failedPrecondition` when the log is not open, or the new file cannot be opened: the old one stays in use.
    func reopen(_ container: String) async throws

    /// Returns when both sources have ended and are written; at once for a container that is not followed.
    ///
    /// Called when the container has ended: a console, which has no end of its own, ends with what its file holds now.
    func drained(_ container: String) async

    /// Has what waits for the log's budget written at once: the container has ended.
    func liftBudget(of container: String) async

    /// Ends the copying and closes the log. The position stays.
    func close(_ container: String) async

    /// Closes, and forgets what is kept of the container. Idempotent.
    func remove(_ container: String) async

    /// Forgets what is kept of all other containers than these. Called before anything is opened.
    func keep(only containers: Set<String>) async
}

/// Reads what an endpoint gives.
public protocol OutputReader: Sendable {
    /// Copies output to `sink` until both sources end; survives lost connections.
    ///
    /// - Parameter end: of a source that has none of its own.
    /// - Throws: what ends the output for good.
    func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws
}
