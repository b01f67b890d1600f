import DequeModule
import Errors
import Linux
import Runtime
import Synchronization

/// A connection to a port of a pod: bytes both ways, each direction with its own end. One task reads and one task writes.
public final class AgentPortStream: Sendable {
    private struct State {
        var received: Deque<[UInt8]> = []
        var bytes = 0
        var ended = false
        /// ``closeWrite()`` was called.
        var writeEnded = false
        var failure: SwiftletError?
        var reader: CheckedContinuation<[UInt8]?, any Error>?
        var writer: CheckedContinuation<Void, any Error>?

        /// The last piece grows where it can: a guest's tiny pieces cost what their bytes cost.
        mutating func append(_ more: [UInt8]) {
            bytes += more.count
            if let last = received.indices.last, received[last].count + more.count <= AgentPortStream.pieceLimit {
                received[last] += more
            } else {
                received.append(more)
            }
        }
    }

    private static let pieceLimit = 64 << 10
    /// Bytes that may wait in one direction.
    private static let limit = 256 << 10

    private let channel: ByteChannel
    private let state = Mutex(State())

    init(descriptor: Int32, mark: CrashMark, loop: EventLoop) throws(SwiftletError) {
        channel = ByteChannel(descriptor: descriptor, loop: loop, mark: mark)
        try channel.open(owner: self)
    }

    deinit { channel.close() }

    private enum Step {
        case deliver([UInt8]?)
        case fail(SwiftletError)
        case wait
    }

    /// - Returns: nil when the pod sends no more.
    /// - Throws: `.unavailable` when the connection is lost, or was reset by the pod's side; `.cancelled`.
    public func read() async throws -> [UInt8]? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let step = state.withLock { state -> Step in
                    if let bytes = state.received.popFirst() {
                        state.bytes -= bytes.count
                        if state.bytes <= Self.limit / 2 { channel.setReading(true) }
                        return .deliver(bytes)
                    }
                    if state.ended { return .deliver(nil) }
                    if let failure = state.failure { return .fail(failure) }
                    if Task.isCancelled { return .fail(Self.cancelled) }
                    state.reader = continuation
                    return .wait
                }
                switch step {
                case .deliver(let bytes): continuation.resume(returning: bytes)
                case .fail(let error): continuation.resume(throwing: error)
                case .wait: break
                }
            }
        } onCancel: {
            let reader = state.withLock { state in
                defer { state.reader = nil }
                return state.reader
            }
            reader?.resume(throwing: Self.cancelled)
        }
    }

    /// Returns when at most 256 KiB wait for the pod.
    ///
    /// - Throws: `.unavailable` when the connection is lost. A cancelled task does not interrupt a write that waits; ``close()`` does.
    public func write(_ bytes: [UInt8]) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let result = state.withLock { state -> Result<Void, any Error>? in
                if let failure = state.failure { return .failure(failure) }
                guard channel.write(bytes) > Self.limit else { return .success(()) }
                state.writer = continuation
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
    }

    /// Nothing is written after what has been. What the pod sends can still be read.
    public func closeWrite() {
        state.withLock { $0.writeEnded = true }
        channel.finishWriting()
    }

    /// Closes both directions.
    public func close() {
        channel.close()
        fail(SwiftletError(.cancelled, "port: closed"))
    }

    private static var cancelled: SwiftletError { SwiftletError(.cancelled, "reading from a port: cancelled") }

    private func fail(_ error: SwiftletError) {
        let (reader, writer) = state.withLock { state in
            if state.failure == nil { state.failure = error }
            defer { (state.reader, state.writer) = (nil, nil) }
            return (state.reader, state.writer)
        }
        reader?.resume(throwing: error)
        writer?.resume(throwing: error)
    }
}

extension AgentPortStream: ByteChannelOwner {
    package func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        let bytes = Array(bytes)
        let reader = state.withLock { state -> CheckedContinuation<[UInt8]?, any Error>? in
            if let reader = state.reader {
                state.reader = nil
                return reader
            }
            state.append(bytes)
            if state.bytes > Self.limit { channel.setReading(false) }
            return nil
        }
        reader?.resume(returning: bytes)
    }

    package func channelReceivedEnd(_ channel: ByteChannel) {
        // The agent ends its own direction alone as long as this one is open, and both at once when the pod's side has reset the
        // connection. Behind the end of this one the two look the same.
        if !state.withLock({ $0.writeEnded }), !channel.peerReceives {
            channel.close()
            return fail(SwiftletError(.unavailable, "port: the connection was reset"))
        }
        let reader = state.withLock { state in
            state.ended = true
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume(returning: nil)
    }

    package func channelDrained(_ channel: ByteChannel) {
        let writer = state.withLock { state in
            defer { state.writer = nil }
            return state.writer
        }
        writer?.resume()
    }

    package func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        fail(SwiftletError(.unavailable, "port: the connection was lost", cause: error))
    }
}
