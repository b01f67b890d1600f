import NIOCore

/// Where the bytes come from: processes and ports of pods.
///
/// What it throws is told to the client. A task that is cancelled gives up what it opens.
public protocol StreamBackend: Sendable {
    /// Starts a process. - Parameter size: of its terminal, from its first instruction on, where the client has said it in time.
    func exec(_ request: ExecRequest, size: TerminalSize?) async throws -> any ProcessSession
    /// Joins a running container's first process, from now on.
    func attach(_ request: AttachRequest, size: TerminalSize?) async throws -> any ProcessSession
    /// Connects to a port of a pod.
    func connect(_ request: PortForwardRequest, port: UInt16) async throws -> any PortConnection
}

/// A process with the streams that were asked for, and nil for the others.
public protocol ProcessSession: Sendable {
    var stdin: (any ByteSink)? { get }
    var stdout: (any ByteSource)? { get }
    var stderr: (any ByteSource)? { get }
    func resize(_ size: TerminalSize) async
    /// Waits for the process to end; its outputs end by themselves, also where children of it hold them open.
    ///
    /// - Returns: the exit code, 128 + the signal for one that a signal ended.
    func wait() async throws -> Int32
    /// Ends the session: reads, writes and waits that are pending end, and the process of an exec that still runs is killed.
    /// Called once for each session, also after ``wait()``.
    func end() async
}

public protocol PortConnection: Sendable {
    var input: any ByteSink { get }
    var output: any ByteSource { get }
    /// Closes both directions; reads and writes that are pending end. Called once for each connection.
    func end() async
}

/// Bytes that somebody reads as they come. One task reads.
public protocol ByteSource: Sendable {
    /// Waits for bytes: at least one, and 64 KiB at most where many sessions are to cost little.
    ///
    /// - Returns: nil at the end.
    func read() async throws -> ByteBuffer?
}

/// Bytes that somebody takes. One task writes.
public protocol ByteSink: Sendable {
    /// Returns when the bytes are taken and more may follow.
    func write(_ bytes: ByteBuffer) async throws
    /// Says that nothing follows. The other direction goes on.
    func close() async
}
