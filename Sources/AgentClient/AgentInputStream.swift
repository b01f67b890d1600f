import Errors
import Linux
import Synchronization

/// The standard input of one process.
public final class AgentInputStream: Sendable {
    private struct State {
        var closed = false
        var finished = false
        var writers: [CheckedContinuation<Void, any Error>] = []
    }

    /// Bytes that wait for the guest before ``write(_:)`` waits too.
    private static let bufferSize = 256 << 10
    /// How long a finished stream is kept for the guest to take what was written.
    private static let linger = Duration.seconds(10)

    private let channel: ByteChannel
    private let loop: EventLoop
    private let state = Mutex(State())

    init(descriptor: Int32, loop: EventLoop) throws(SwiftletError) {
        self.loop = loop
        channel = ByteChannel(descriptor: descriptor, loop: loop)
        try channel.open(owner: self)
    }

    deinit {
        let channel = channel
        guard state.withLock({ $0.finished && !$0.closed }) else { return channel.close() }
        loop.schedule(at: .now + Self.linger) { channel.close() }
    }

    /// Writes to the process; returns when at most 256 KiB wait for it.
    ///
    /// - Throws: `.unavailable` when the process no longer reads or the connection is lost; `.failedPrecondition` after
    ///   ``closeWrite()``. A cancelled task does not interrupt a write that waits; ``close()`` does.
    public func write(_ bytes: [UInt8]) async throws {
        try await withCheckedThrowingContinuation { continuation in
            let result = state.withLock { state -> Result<Void, any Error>? in
                if state.finished { return .failure(SwiftletError(.failedPrecondition, "input stream: written after its end")) }
                if state.closed { return .failure(Self.lost) }
                guard channel.write(bytes) > Self.bufferSize else { return .success(()) }
                state.writers.append(continuation)
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
    }

    /// End of file for the process, after all that was written.
    public func closeWrite() {
        state.withLock { $0.finished = true }
        channel.finishWriting()
    }

    /// Closes the connection. Without ``closeWrite()`` before it, the process's input stays open for another stream.
    public func close() {
        guard state.withLock({ $0.finished && !$0.closed }) else { return channel.close() }
        // The guest closes its side when it has taken the end of file; a reset before that would look like a lost host.
        let channel = channel
        loop.schedule(at: .now + Self.linger) { [self] in withExtendedLifetime(self) { channel.close() } }
    }

    private static var lost: SwiftletError { SwiftletError(.unavailable, "input stream: the process no longer reads") }

    private func resumeWriters(_ result: Result<Void, any Error>, closed: Bool) {
        let writers = state.withLock { state in
            if closed { state.closed = true }
            defer { state.writers = [] }
            return state.writers
        }
        for writer in writers { writer.resume(with: result) }
    }
}

extension AgentInputStream: ByteChannelOwner {
    /// The guest has nothing to say on an input stream.
    package func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) { channel.close() }

    package func channelReceivedEnd(_ channel: ByteChannel) { channel.close() }

    package func channelDrained(_ channel: ByteChannel) { resumeWriters(.success(()), closed: false) }

    package func channelClosed(_ channel: ByteChannel, error: SwiftletError?) { resumeWriters(.failure(Self.lost), closed: true) }
}
