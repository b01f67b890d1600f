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

/// Makes URLs at which clients open sessions: one connection each, within a minute. No byte of a session passes through a pod.
public protocol ContainerSessions: Sendable {
    /// A process of its own in the container.
    ///
    /// - Throws: `.resourceExhausted` when too many URLs are unused; `.unavailable` when sessions are not served at this moment.
    func exec(_ command: [String], in endpoint: OutputEndpoint, of sandbox: String, _ streams: SessionStreams) async throws -> String

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
