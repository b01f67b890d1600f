import AgentProtocol
import DequeModule
import Errors
import Linux
import Synchronization

/// Output of a process as it came from the guest.
public struct OutputChunk: Sendable, Equatable {
    public var source: OutputSource
    /// Bytes of this source before this chunk, since the process began.
    public var offset: UInt64
    /// At most 65536; empty only with `end`.
    public var bytes: [UInt8]
    /// Nothing of this source follows.
    public var end: Bool
}

/// The output of one process, in the order in which the guest read it.
///
/// The guest keeps 1 MiB until it is acknowledged and stops the process when that is full, so acknowledge as soon as the
/// bytes are safe, and also the last ones: the sequence ends when both sources have ended and all was acknowledged.
/// Without an acknowledged end the next OpenStream goes on where this stream stopped. One consumer at a time.
public final class AgentOutputStream: AsyncSequence, Sendable {
    public typealias Element = OutputChunk

    private struct State {
        var decoder = OutputFrameDecoder()
        var received: [OutputSource: UInt64]
        var ended: Set<OutputSource> = []
        var chunks: Deque<OutputChunk> = []
        var buffered = 0
        var finished: Result<Void, SwiftletError>?
        var consumer: CheckedContinuation<OutputChunk?, any Error>?
        var acknowledgement: OutputAcknowledgement?

        /// What the consumer has not taken yet grows by the frame where it can: tiny frames cost what their bytes cost.
        mutating func append(_ chunk: OutputChunk) {
            let last = chunks.indices.last
            if let last, chunks[last].source == chunk.source, chunks[last].bytes.count + chunk.bytes.count <= OutputFrame.maximumPayload {
                chunks[last].bytes += chunk.bytes
                chunks[last].end = chunk.end
                buffered += chunk.bytes.count
                return
            }
            chunks.append(chunk)
            buffered += chunk.bytes.count + AgentOutputStream.chunkOverhead
        }

        mutating func takeFirst() -> OutputChunk? {
            guard let chunk = chunks.popFirst() else { return nil }
            buffered -= chunk.bytes.count + AgentOutputStream.chunkOverhead
            return chunk
        }
    }

    /// What a chunk counts beside its bytes, so that a guest's tiny frames do not fill the memory.
    fileprivate static let chunkOverhead = 64

    /// Received bytes that wait for the consumer before the socket is left alone.
    private static let bufferSize = 256 << 10

    private let channel: ByteChannel
    private let state: Mutex<State>

    init(descriptor: Int32, stdout: UInt64, stderr: UInt64, mark: CrashMark, loop: EventLoop) throws(SwiftletError) {
        state = Mutex(State(received: [.stdout: stdout, .stderr: stderr]))
        channel = ByteChannel(descriptor: descriptor, loop: loop, mark: mark)
        try channel.open(owner: self)
    }

    deinit { channel.close() }

    /// Tells the guest how much has been received in all, counted from the process's first byte. Totals only grow.
    public func acknowledge(stdout: UInt64, stderr: UInt64) {
        state.withLock { state in
            let acknowledgement = OutputAcknowledgement(stdout: stdout, stderr: stderr)
            // A guest that does not read gets one at a time; only the last one counts.
            if channel.queued > 0 {
                state.acknowledgement = acknowledgement
            } else {
                channel.write(acknowledgement.encoded)
            }
        }
    }

    /// Closes the connection. The consumer's sequence fails with `.cancelled` unless it had ended.
    public func close() {
        channel.close()
        finish(.failure(SwiftletError(.cancelled, "output stream: closed")))
    }

    public func makeAsyncIterator() -> Iterator { Iterator(stream: self) }

    public struct Iterator: AsyncIteratorProtocol {
        let stream: AgentOutputStream

        /// - Throws: `.unavailable` when the connection was lost before the end; `.dataLoss` when the guest broke the protocol.
        public mutating func next() async throws -> OutputChunk? { try await stream.next() }
    }

    private enum Step {
        case deliver(OutputChunk)
        case end(Result<Void, SwiftletError>)
        case wait
    }

    private func next() async throws -> OutputChunk? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let step = state.withLock { state -> Step in
                    precondition(state.consumer == nil, "an output stream has one consumer")
                    if let chunk = state.takeFirst() {
                        if state.buffered < Self.bufferSize / 2 { channel.setReading(true) }
                        return .deliver(chunk)
                    }
                    if let finished = state.finished { return .end(finished) }
                    if Task.isCancelled { return .end(.failure(Self.cancelled)) }
                    state.consumer = continuation
                    return .wait
                }
                switch step {
                case .deliver(let chunk): continuation.resume(returning: chunk)
                case .end(let result): continuation.resume(with: result.map { nil }.mapError { $0 as any Error })
                case .wait: break
                }
            }
        } onCancel: {
            let consumer = state.withLock { state in
                defer { state.consumer = nil }
                return state.consumer
            }
            consumer?.resume(throwing: Self.cancelled)
        }
    }

    private static var cancelled: SwiftletError { SwiftletError(.cancelled, "reading an output stream: cancelled") }

    private func finish(_ result: Result<Void, SwiftletError>) {
        let consumer = state.withLock { state -> CheckedContinuation<OutputChunk?, any Error>? in
            guard state.finished == nil else { return nil }
            state.finished = result
            defer { state.consumer = nil }
            return state.consumer
        }
        consumer?.resume(with: result.map { nil }.mapError { $0 as any Error })
    }
}

extension AgentOutputStream: ByteChannelOwner {
    package func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        do {
            let delivery = try state.withLock { state throws(SwiftletError) in try take(bytes, &state) }
            if let (consumer, chunk) = delivery { consumer.resume(returning: chunk) }
        } catch {
            channel.close()
            finish(.failure(error))
        }
    }

    /// Buffers the chunks of `bytes`, and hands the first one over when the consumer waits.
    private func take(
        _ bytes: UnsafeRawBufferPointer, _ state: inout State
    ) throws(SwiftletError) -> (CheckedContinuation<OutputChunk?, any Error>, OutputChunk)? {
        state.decoder.append(bytes)
        while let frame = try state.decoder.next() {
            guard !state.ended.contains(frame.source), frame.end || !frame.payload.isEmpty else {
                throw SwiftletError(.dataLoss, "output stream: the guest sent an empty frame, or one after the end of its source")
            }
            let offset = state.received[frame.source, default: 0]
            state.append(OutputChunk(source: frame.source, offset: offset, bytes: frame.payload, end: frame.end))
            state.received[frame.source] = offset + UInt64(frame.payload.count)
            if frame.end { state.ended.insert(frame.source) }
        }
        if state.buffered >= Self.bufferSize { channel.setReading(false) }
        guard let consumer = state.consumer, let chunk = state.takeFirst() else { return nil }
        state.consumer = nil
        return (consumer, chunk)
    }

    package func channelReceivedEnd(_ channel: ByteChannel) {
        channel.close()
        finish(isWhole ? .success(()) : .failure(SwiftletError(.unavailable, "output stream: the connection was lost before the end")))
    }

    package func channelDrained(_ channel: ByteChannel) {
        state.withLock { state in
            if let acknowledgement = state.acknowledgement { channel.write(acknowledgement.encoded) }
            state.acknowledgement = nil
        }
    }

    package func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        // A guest that takes no acknowledgement any more has said everything nevertheless.
        guard !isWhole else { return finish(.success(())) }
        finish(.failure(SwiftletError(.unavailable, "output stream: the connection was lost", cause: error)))
    }

    private var isWhole: Bool { state.withLock { $0.ended.count == OutputSource.allCases.count && $0.decoder.isAtBoundary } }
}
