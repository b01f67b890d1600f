import Concurrency
import Errors
import Glibc
import Linux
import NIOCore
import Runtime
import StreamControl
import StreamServer
import Synchronization

/// A command that swiftletd runs and delivers the output of, or a process on the node that swiftletd starts when the session has joined it.
/// Either ends with the session.
final class DaemonCommandSession: ProcessSession {
    /// What the session holds of a process.
    private struct Joined {
        let process: JoinableProcess
        let connection: ConmonConnection
        /// Tells swiftletd that the session is there.
        let pipe: Int32
    }

    private let streams: StreamSet
    private let (out, error) = (OutputQueue(), OutputQueue())
    private let outcome = Mutex<Result<Int32, any Error>?>(nil)
    private let hasOutcome = Event()
    private let joined = Mutex<Joined?>(nil)
    /// A process was joined, or none will be.
    private let isDecided = Event()
    private let hasEnded: @Sendable () -> Void

    var stdin: (any ByteSink)? { streams.stdin ? Input(session: self) : nil }
    var stdout: (any ByteSource)? { streams.stdout ? out : nil }
    var stderr: (any ByteSource)? { streams.stderr ? error : nil }

    /// - Parameter hasEnded: called when the session ends.
    init(_ streams: StreamSet, hasEnded: @escaping @Sendable () -> Void) { (self.streams, self.hasEnded) = (streams, hasEnded) }

    /// Returns when there is room for more. What the client did not ask for is dropped.
    func take(_ output: StreamDeliverOutputRequest) async {
        for (bytes, queue, isAskedFor) in [(output.stdout, out, streams.stdout), (output.stderr, error, streams.stderr)] where isAskedFor {
            var rest = bytes[...]
            while !rest.isEmpty {
                await queue.put(ByteBuffer(bytes: rest.prefix(Self.piece)))
                rest = rest.dropFirst(Self.piece)
            }
        }
        switch output.end {
        case nil: break
        case .exitCode(let code): finish(.success(code))
        case .failure(let reason): finish(.failure(SwiftletError(.aborted, reason)))
        }
    }

    /// Bytes that are put at once.
    private static let piece = 64 << 10

    // MARK: Joined processes

    var hasJoined: Bool { joined.withLock { $0 != nil } }

    private var connection: ConmonConnection? { joined.withLock { $0?.connection } }

    /// Carries what a process writes from now on, and waits for its exit code.
    ///
    /// - Throws: `.cancelled` when the session has ended; `.unavailable` when its conmon is not there.
    func join(_ process: JoinableProcess) throws {
        let pipe = try Self.open(process.sessionPipe)
        let connection: ConmonConnection
        do {
            connection = try ConmonConnection(to: process.conmon.socket) { [weak self] connection, bytes, stream in
                self?.carry(bytes, stream, connection)
            }
        } catch {
            close(pipe)
            throw error
        }
        let isNew = joined.withLock { joined in
            guard joined == nil, outcome.withLock({ $0 == nil }) else { return false }
            joined = Joined(process: process, connection: connection, pipe: pipe)
            return true
        }
        guard isNew else {
            connection.close()
            close(pipe)
            throw SwiftletError(.cancelled, "the session has ended")
        }
        isDecided.happen()
        Task { [weak self, out, error] in
            try? await connection.ended.wait()
            for queue in [out, error] { queue.finish() }
            let result = await Self.exitCode(process.exitFile, container: self)
            self?.finish(result)
        }
    }

    /// A named pipe that swiftletd has made.
    private static func open(_ path: String) throws -> Int32 {
        let pipe = Glibc.open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
        guard pipe >= 0 else { throw SwiftletError.system("open \(path)") }
        var status = stat()
        guard fstat(pipe, &status) == 0, status.st_mode & S_IFMT == S_IFIFO else {
            close(pipe)
            throw SwiftletError(.invalidArgument, "\(quoted(path)) is no named pipe")
        }
        return pipe
    }

    /// The process waits for a client that does not read.
    private func carry(_ bytes: [UInt8], _ stream: StandardStream, _ connection: ConmonConnection) {
        let (queue, isAskedFor) = stream == .stdout ? (out, streams.stdout) : (error, streams.stderr)
        guard isAskedFor else { return }
        connection.setReading(false)
        Task {
            await queue.put(ByteBuffer(bytes: bytes))
            connection.setReading(true)
        }
    }

    /// For conmon to write the exit code when it has closed its clients' connections, and for swiftletd to say why there is no process.
    private static let exitPatience = Duration.seconds(5)

    private static func exitCode(_ path: String, container session: DaemonCommandSession?) async -> Result<Int32, any Error> {
        let deadline = ContinuousClock.now + exitPatience
        repeat {
            let text = await OwnThread.answer { KernelFile.text(path, limit: 32) }
            if let code = text.flatMap({ Int32($0.filter { !$0.isWhitespace }) }) { return .success(code) }
            try? await Task.sleep(for: .milliseconds(10))
        } while ContinuousClock.now < deadline && session?.outcome.withLock({ $0 == nil }) ?? false
        return .failure(SwiftletError(.aborted, "the exit code is not known: conmon, which notes it, has ended before the process"))
    }

    private struct Input: ByteSink {
        let session: DaemonCommandSession

        func write(_ bytes: ByteBuffer) async throws {
            try await session.isDecided.wait()
            try await session.connection?.write(Array(bytes.readableBytesView))
        }

        func close() async {
            try? await session.isDecided.wait()
            session.connection?.finishInput()
        }
    }

    // MARK: Its end

    /// The client reads what is there, and is told. The first outcome counts.
    func finish(_ result: Result<Int32, any Error>) {
        outcome.withLock { $0 = $0 ?? result }
        for queue in [out, error] { queue.finish() }
        isDecided.happen()
        hasOutcome.happen()
    }

    func resize(_ size: TerminalSize) async {
        try? await isDecided.wait()
        guard let control = joined.withLock({ $0?.process.conmon.control }) else { return }
        await ConmonControl.resize(control, width: size.width, height: size.height)
    }

    func wait() async throws -> Int32 {
        try await hasOutcome.wait()
        guard let outcome = outcome.withLock({ $0 }) else { throw SwiftletError(.internal, "the session has no outcome") }
        return try outcome.get()
    }

    func end() async {
        finish(.failure(SwiftletError(.cancelled, "the session has ended")))
        let joined = joined.withLock { joined in
            defer { joined = nil }
            return joined
        }
        if let joined {
            joined.connection.close()
            close(joined.pipe)
        }
        hasEnded()
    }
}
