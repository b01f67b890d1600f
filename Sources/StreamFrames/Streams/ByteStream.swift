import Errors
import NIOCore

/// One stream of a connection: bytes both ways with back-pressure, whatever frames carry them.
///
/// One task reads and one task writes. A read that was cancelled is the last.
///
/// Unchecked: everything but the constants is touched on the connection's event loop only.
package final class ByteStream: @unchecked Sendable {
    package let id: UInt32
    package let headers: [String: String]
    private let eventLoop: any EventLoop
    private weak var table: StreamTable?

    private enum Inbound {
        case open, ended
        case failed(any Error)
    }

    private var inbound = Inbound.open
    private var queue = CircularBuffer<ByteBuffer>()
    /// Bytes that wait for the reader.
    package private(set) var queuedBytes = 0
    private var reader: CheckedContinuation<ByteBuffer?, any Error>?
    private var (isReadingCancelled, isDiscarding) = (false, false)

    /// What waits until the connection takes it, with the writer.
    private var outbound: (bytes: ByteBuffer, writer: CheckedContinuation<Void, any Error>)?
    private var (hasEnded, failure): (Bool, (any Error)?) = (false, nil)
    private var failureWaiter: CheckedContinuation<(any Error)?, Never>?
    private var isFailureWaitCancelled = false

    package init(id: UInt32, headers: [String: String], table: StreamTable, eventLoop: any EventLoop) {
        (self.id, self.headers, self.table, self.eventLoop) = (id, headers, table, eventLoop)
    }

    // MARK: From any task

    /// - Returns: nil when the client sends no more.
    /// - Throws: when the stream or its connection has failed, or the task was cancelled.
    package func read() async throws -> ByteBuffer? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { reader in eventLoop.execute { self.take(for: reader) } }
        } onCancel: {
            eventLoop.execute { self.cancelReading() }
        }
    }

    /// Returns when the connection takes more. An empty buffer is sent as a frame without bytes.
    package func write(_ bytes: ByteBuffer) async throws {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { writer in eventLoop.execute { self.put(bytes, for: writer) } }
        } onCancel: {
            eventLoop.execute { self.cancelWriting() }
        }
    }

    /// Sends no more. What the client still sends can be read.
    package func end() {
        eventLoop.execute {
            guard !self.hasEnded, self.failure == nil, self.outbound == nil else { return }
            self.hasEnded = true
            self.table?.send(ByteBuffer(), end: true, on: self.id)
        }
    }

    /// Takes what the client sends from here on for read, and drops it.
    package func discard() { eventLoop.execute { self.dropQueued() } }

    /// Waits until the stream, or its connection, has failed. One task waits; a wait that was cancelled is the last.
    ///
    /// - Returns: nil when the task was cancelled.
    package func waitForFailure() async -> (any Error)? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { waiter in
                eventLoop.execute {
                    guard self.failure == nil, !self.isFailureWaitCancelled else { return waiter.resume(returning: self.failure) }
                    self.failureWaiter = waiter
                }
            }
        } onCancel: {
            eventLoop.execute {
                self.isFailureWaitCancelled = true
                self.endFailureWait(nil)
            }
        }
    }

    /// Ends both directions at once, and forgets the stream. The peer is told unless both have ended before.
    package func reset() {
        eventLoop.execute {
            self.dropQueued()
            self.table?.reset(self)
        }
    }

    /// Ends what has not ended, and forgets the stream.
    package func release() {
        eventLoop.execute {
            self.dropQueued()
            if case .open = self.inbound { self.table?.reset(self) } else { self.table?.remove(self.id) }
        }
    }

    // MARK: On the event loop

    package func received(_ bytes: ByteBuffer) {
        guard case .open = inbound, !isDiscarding else {
            table?.consumed(bytes.readableBytes, of: self)
            return
        }
        if let reader {
            self.reader = nil
            table?.consumed(bytes.readableBytes, of: self)
            reader.resume(returning: bytes)
        } else {
            queue.append(bytes)
            queuedBytes += bytes.readableBytes
        }
    }

    package func receivedEnd() {
        guard case .open = inbound else { return }
        inbound = .ended
        reader?.resume(returning: nil)
        reader = nil
    }

    /// What has not been read is still read, before the failure.
    package func fail(_ error: any Error) {
        if case .open = inbound { inbound = .failed(error) }
        reader?.resume(throwing: error)
        reader = nil
        if failure == nil { failure = error }
        endFailureWait(error)
        outbound?.writer.resume(throwing: error)
        outbound = nil
    }

    private func endFailureWait(_ error: (any Error)?) {
        failureWaiter?.resume(returning: error)
        failureWaiter = nil
    }

    package var isWaiting: Bool { outbound != nil }

    /// Sends what waits, as far as the connection takes it.
    package func flush() {
        guard let (waiting, writer) = outbound, let table else { return }
        var bytes = waiting
        // A write that finds the connection gone fails the stream before it returns; the writer is this function's until then.
        outbound = nil
        table.send(&bytes, end: false, on: id)
        if let failure { return writer.resume(throwing: failure) }
        if bytes.readableBytes > 0 { outbound = (bytes, writer) } else { writer.resume() }
    }

    private func take(for reader: CheckedContinuation<ByteBuffer?, any Error>) {
        if isReadingCancelled { return reader.resume(throwing: CancellationError()) }
        if let bytes = queue.popFirst() {
            queuedBytes -= bytes.readableBytes
            table?.consumed(bytes.readableBytes, of: self)
            return reader.resume(returning: bytes)
        }
        switch inbound {
        case .open: self.reader = reader
        case .ended: reader.resume(returning: nil)
        case .failed(let error): reader.resume(throwing: error)
        }
    }

    private func cancelReading() {
        isReadingCancelled = true
        reader?.resume(throwing: CancellationError())
        reader = nil
    }

    private func put(_ bytes: ByteBuffer, for writer: CheckedContinuation<Void, any Error>) {
        guard failure == nil, !hasEnded, outbound == nil, let table else {
            return writer.resume(throwing: failure ?? SwiftletError(.aborted, "the stream has ended"))
        }
        outbound = (bytes, writer)
        if table.isWritable { flush() }
        if outbound != nil { table.wait(self) }
    }

    private func cancelWriting() {
        outbound?.writer.resume(throwing: CancellationError())
        outbound = nil
    }

    package func dropQueued() {
        isDiscarding = true
        let count = queuedBytes
        queue.removeAll()
        queuedBytes = 0
        table?.consumed(count, of: self)
    }
}

extension ByteStream: AsyncSequence {
    package struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let stream: ByteStream

        package mutating func next() async throws -> ByteBuffer? { try await stream.read() }
    }

    /// What the peer sends, to its end; each piece once, whoever iterates.
    package nonisolated func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stream: self) }
}
