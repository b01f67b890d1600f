import DequeModule
import NIOCore
import StreamServer
import Synchronization

/// One source of a process's output, from the guest's stream to the session that reads it.
final class OutputQueue: ByteSource {
    private struct State {
        var buffers: Deque<ByteBuffer> = []
        var bytes = 0
        var end: Result<Void, any Error>?
        var reader: CheckedContinuation<ByteBuffer?, any Error>?
        var writer: CheckedContinuation<Void, Never>?

        /// The last buffer grows where it can: tiny pieces cost what their bytes cost.
        mutating func append(_ more: ByteBuffer) {
            bytes += more.readableBytes
            if let last = buffers.indices.last, buffers[last].readableBytes + more.readableBytes <= OutputQueue.pieceLimit {
                buffers[last].writeImmutableBuffer(more)
            } else {
                buffers.append(more)
            }
        }
    }

    private enum Step {
        case resume(Result<ByteBuffer?, any Error>)
        case wait
    }

    fileprivate static let pieceLimit = 64 << 10
    /// Bytes that may wait for the reader.
    private static let limit = 256 << 10

    private let state = Mutex(State())

    /// Returns when more may follow. What comes after the end is dropped.
    func put(_ bytes: ByteBuffer) async {
        await withCheckedContinuation { continuation in
            let (reader, isTaken) = state.withLock { state -> (CheckedContinuation<ByteBuffer?, any Error>?, Bool) in
                guard state.end == nil else { return (nil, true) }
                if let reader = state.reader {
                    state.reader = nil
                    return (reader, true)
                }
                state.append(bytes)
                guard state.bytes > Self.limit else { return (nil, true) }
                state.writer = continuation
                return (nil, false)
            }
            reader?.resume(returning: bytes)
            if isTaken { continuation.resume() }
        }
    }

    /// What has been put is still read. The first end counts.
    func finish(_ result: Result<Void, any Error> = .success(())) {
        let (reader, writer) = state.withLock { state in
            if state.end == nil { state.end = result }
            defer { (state.reader, state.writer) = (nil, nil) }
            return (state.reader, state.writer)
        }
        writer?.resume()
        reader?.resume(with: result.map { nil })
    }

    func read() async throws -> ByteBuffer? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let (step, writer) = state.withLock { state -> (Step, CheckedContinuation<Void, Never>?) in
                    if let buffer = state.buffers.popFirst() {
                        state.bytes -= buffer.readableBytes
                        guard state.bytes <= Self.limit / 2 else { return (.resume(.success(buffer)), nil) }
                        defer { state.writer = nil }
                        return (.resume(.success(buffer)), state.writer)
                    }
                    if let end = state.end { return (.resume(end.map { nil }), nil) }
                    if Task.isCancelled { return (.resume(.failure(CancellationError())), nil) }
                    state.reader = continuation
                    return (.wait, nil)
                }
                writer?.resume()
                if case .resume(let result) = step { continuation.resume(with: result) }
            }
        } onCancel: {
            let reader = state.withLock { state in
                defer { state.reader = nil }
                return state.reader
            }
            reader?.resume(throwing: CancellationError())
        }
    }
}
