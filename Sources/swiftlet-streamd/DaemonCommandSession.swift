import Errors
import NIOCore
import StreamControl
import StreamServer
import Synchronization

/// A command that swiftletd runs and delivers the output of. The command ends with the session.
final class DaemonCommandSession: ProcessSession {
    private let streams: StreamSet
    private let (out, error) = (OutputQueue(), OutputQueue())
    private let outcome = Mutex<Result<Int32, any Error>?>(nil)
    private let hasOutcome = Event()
    private let hasEnded: @Sendable () -> Void

    var stdin: (any ByteSink)? { nil }
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

    /// The client reads what is there, and is told. The first outcome counts.
    func finish(_ result: Result<Int32, any Error>) {
        outcome.withLock { $0 = $0 ?? result }
        for queue in [out, error] { queue.finish() }
        hasOutcome.happen()
    }

    /// There is no terminal.
    func resize(_ size: TerminalSize) async {}

    func wait() async throws -> Int32 {
        try await hasOutcome.wait()
        guard let outcome = outcome.withLock({ $0 }) else { throw SwiftletError(.internal, "the session has no outcome") }
        return try outcome.get()
    }

    func end() async {
        finish(.failure(SwiftletError(.cancelled, "the session has ended")))
        hasEnded()
    }
}
