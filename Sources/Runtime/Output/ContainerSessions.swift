/// What a client opens a session for.
public struct SessionStreams: Sendable, Equatable {
    public var stdin: Bool
    public var stdout: Bool
    public var stderr: Bool
    /// The process has a terminal, whose output is stdout alone.
    public var terminal: Bool

    public init(stdin: Bool, stdout: Bool, stderr: Bool, terminal: Bool) {
        (self.stdin, self.stdout, self.stderr, self.terminal) = (stdin, stdout, stderr, terminal)
    }
}

/// Where processes are run that a client opens sessions for.
public enum ExecEndpoint: Sendable, Hashable {
    /// Joined with the client by streams.
    case streams(OutputEndpoint)
    /// By ``Sandbox/execute(_:_:timeout:output:)`` alone: without input and terminal, and with output when the process has ended.
    case execute
    /// By ``Sandbox/openProcess(_:_:_:size:join:)``: conmon joins them with the client, and they outlive this process with their session.
    case process
}

/// What a client opens a terminal with.
public struct InitialTerminalSize: Sendable, Equatable {
    public var width: UInt16
    public var height: UInt16

    public init(width: UInt16, height: UInt16) { (self.width, self.height) = (width, height) }
}

/// A process that waits for its start, for a session to join it.
public struct JoinableProcess: Sendable, Equatable {
    public var conmon: ConmonEndpoint
    /// The file that conmon writes the exit code to.
    public var exitFile: String
    /// A named pipe that the session holds open for reading as long as it lasts.
    public var sessionPipe: String

    public init(conmon: ConmonEndpoint, exitFile: String, sessionPipe: String) {
        (self.conmon, self.exitFile, self.sessionPipe) = (conmon, exitFile, sessionPipe)
    }
}

/// Makes the process of a session whose client has come, has it joined, and starts it.
public typealias SessionProcess =
    @Sendable (_ size: InitialTerminalSize?, _ join: @escaping @Sendable (JoinableProcess) async throws -> Void) async throws -> Void

/// Runs a command for a session and hands on what came of it; `deliver` returns when the client has taken it. Cancelled when the session
/// ends.
public typealias SessionCommand = @Sendable (_ deliver: @Sendable (ExecResult) async throws -> Void) async throws -> Void

/// Makes URLs at which clients open sessions: one connection each, within a minute. No byte of a session passes through a pod.
public protocol ContainerSessions: Sendable {
    /// A process of its own in the container.
    ///
    /// - Throws: `.resourceExhausted` when too many URLs are unused; `.unavailable` when sessions are not served at this moment.
    func exec(_ command: [String], in endpoint: OutputEndpoint, of sandbox: String, _ streams: SessionStreams) async throws -> String

    /// A process of its own that `run` runs, once the client has come. It ends with this process.
    ///
    /// - Parameter streams: without stdin and terminal.
    func exec(of container: String, in sandbox: String, _ streams: SessionStreams, run: @escaping SessionCommand) async throws -> String

    /// A process of its own that `open` makes, once the client has come. With its session it goes on when this process ends.
    func exec(
        joining container: String, in sandbox: String, _ streams: SessionStreams, open: @escaping SessionProcess
    ) async throws -> String

    /// What a running container's first process writes from now on, and its standard input. Of a console, also the last of what it has
    /// written before.
    ///
    /// - Parameter stdinOnce: the input ends with the first session that had it.
    func attach(
        to endpoint: OutputEndpoint, of container: String, in sandbox: String, _ streams: SessionStreams, stdinOnce: Bool
    ) async throws -> String

    /// Connections to ports of a sandbox, made as `endpoint` says.
    ///
    /// - Parameter ports: those that a WebSocket client gets; a SPDY client names its ports itself.
    func portForward(to endpoint: PortEndpoint, of sandbox: String, ports: [Int32]) async throws -> String
}
