import Errors
import NIOCore

/// What carries the frames of streams: SPDY or WebSocket. Used on the connection's event loop only.
package protocol StreamCarrier: AnyObject {
    var isWritable: Bool { get }
    /// Takes off `bytes` what may be sent now.
    func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32)
    func consumed(_ count: Int, of id: UInt32)
    func sendReset(of id: UInt32)
    /// Goes on to read after ``StreamTable/holdsReads`` has become false.
    func resumeReading()
}

/// The streams of one connection: who waits to write, in turn, and whether so much waits to be read that the connection is not read.
/// Used on the connection's event loop only.
package final class StreamTable {
    /// Bytes that may wait for a stream's reader, and for all of a server's connection, before its socket is not read.
    package static let streamLimit = 256 << 10
    package static let connectionLimit = 1 << 20

    private let connectionLimit: Int
    private weak var carrier: (any StreamCarrier)?
    private let eventLoop: any EventLoop
    private var streams: [UInt32: ByteStream] = [:]
    private var writers = CircularBuffer<ByteStream>()
    private var queuedBytes = 0
    private var full: Set<UInt32> = []
    package private(set) var failure: (any Error)?
    package private(set) var lastActivity = NIODeadline.now()

    package init(carrier: any StreamCarrier, eventLoop: any EventLoop, connectionLimit: Int = connectionLimit) {
        (self.carrier, self.eventLoop, self.connectionLimit) = (carrier, eventLoop, connectionLimit)
    }

    package var isWritable: Bool { carrier?.isWritable ?? false }
    package var holdsReads: Bool { !full.isEmpty || queuedBytes > connectionLimit }

    package func open(_ id: UInt32, _ headers: [String: String] = [:]) -> ByteStream {
        let stream = ByteStream(id: id, headers: headers, table: self, eventLoop: eventLoop)
        lastActivity = .now()
        streams[id] = stream
        return stream
    }

    package func received(_ bytes: ByteBuffer, on id: UInt32) {
        lastActivity = .now()
        guard let stream = streams[id] else {
            carrier?.consumed(bytes.readableBytes, of: id)
            return
        }
        queuedBytes += bytes.readableBytes
        stream.received(bytes)
        if stream.queuedBytes > Self.streamLimit { full.insert(id) }
    }

    package func receivedEnd(on id: UInt32) { streams[id]?.receivedEnd() }

    package func fail(_ id: UInt32, _ error: any Error) { streams.removeValue(forKey: id)?.fail(error) }

    package func failAll(_ error: any Error) {
        if failure == nil { failure = error }
        for stream in streams.values { stream.fail(error) }
        streams = [:]
        writers.removeAll()
    }

    /// Streams that wait go on in turn, each with what it has, while the connection takes it.
    package func flush() {
        for _ in 0..<writers.count {
            guard isWritable, let stream = writers.popFirst() else { return }
            stream.flush()
            if stream.isWaiting { writers.append(stream) }
        }
    }

    // MARK: For streams

    package func wait(_ stream: ByteStream) { writers.append(stream) }

    package func send(_ bytes: ByteBuffer, end: Bool, on id: UInt32) {
        var bytes = bytes
        send(&bytes, end: end, on: id)
    }

    package func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32) {
        lastActivity = .now()
        carrier?.send(&bytes, end: end, on: id)
    }

    package func consumed(_ count: Int, of stream: ByteStream) {
        let didHold = holdsReads
        queuedBytes -= count
        if stream.queuedBytes <= Self.streamLimit / 2 { full.remove(stream.id) }
        if count > 0 { carrier?.consumed(count, of: stream.id) }
        if didHold, !holdsReads { carrier?.resumeReading() }
    }

    package func remove(_ id: UInt32) { streams[id] = nil }

    package func reset(_ stream: ByteStream) {
        guard streams.removeValue(forKey: stream.id) != nil else { return }
        stream.fail(SwiftletError(.cancelled, "the stream was reset"))
        carrier?.sendReset(of: stream.id)
    }
}
