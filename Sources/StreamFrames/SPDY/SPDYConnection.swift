import NIOCore

/// The server's end of a SPDY/3.1 connection, without I/O: bytes in, events out; what is to be sent is in ``takeOutput()`` and in what
/// ``send(_:end:on:)`` returns.
///
/// Flow control is what the peer makes of it. The draft's windows are 64 KiB for a stream and for the connection. moby/spdystream,
/// which kubectl, the API server and the kubelet use, neither sends WINDOW_UPDATE nor looks at one, and reads only as fast as the
/// streams' users do. So:
/// - bytes are sent without regard to a window until the peer sends SETTINGS with an initial window or WINDOW_UPDATE, and within its
///   windows from then on;
/// - WINDOW_UPDATE is sent for what was consumed until the peer sends more than its window holds, which tells that it counts none.
///   From a peer that does count, that is an error. Whoever owns this machine bounds what it holds by not reading.
package struct SPDYConnection {
    package static let initialWindow = 64 << 10
    private static let greatestWindow = Int(Int32.max)
    /// Bytes of one data frame, so that streams take turns.
    private static let greatestFrame = 256 << 10

    package enum Event: Equatable {
        case opened(id: UInt32, headers: [String: String])
        case data(id: UInt32, bytes: ByteBuffer)
        /// The peer sends no more on this stream.
        case ended(id: UInt32)
        case reset(id: UInt32, reason: String)
        /// A stream, or all, may send more.
        case windowOpened(id: UInt32?)
        case goneAway
    }

    private struct Stream {
        var hasPeerEnded = false
        var hasEnded = false
        var sendWindow: Int
        var receiveWindow = initialWindow
        /// Consumed, but not yet told.
        var consumed = 0
    }

    private let maximumStreams: Int
    private var decoder = SPDYFrameDecoder()
    private let inflater = HeaderInflater()
    private let deflater = HeaderDeflater()
    private var streams: [UInt32: Stream] = [:]
    private var lastID: UInt32 = 0
    /// The peer has shown that it keeps to windows, or that it does not.
    private var (peerCounts, peerOverruns) = (false, false)
    private var initialSendWindow = initialWindow
    private var sendWindow = initialWindow
    private var receiveWindow = initialWindow
    private var consumed = 0
    private var output = ByteBuffer()
    private var queued: [Event] = []

    package init(maximumStreams: Int) { self.maximumStreams = maximumStreams }

    package mutating func receive(_ bytes: ByteBuffer) { decoder.append(bytes) }

    /// Bytes that ``takeOutput()`` would give.
    package var pendingOutput: Int { output.readableBytes }

    /// What is to be written, in order, before anything that ``send(_:end:on:)`` returns from then on.
    package mutating func takeOutput() -> ByteBuffer? {
        guard output.readableBytes > 0 else { return nil }
        defer { output = ByteBuffer() }
        return output
    }

    /// - Throws: a fault that ends the connection; ``goAway(status:)`` says so to the peer.
    package mutating func next() throws(SPDYConnectionError) -> Event? {
        while queued.isEmpty {
            guard let frame = try decoder.next() else { return nil }
            try handle(frame)
        }
        return queued.removeFirst()
    }

    // MARK: What the owner does

    /// Takes a stream that was opened.
    package mutating func accept(_ id: UInt32) {
        guard streams[id] != nil else { return }
        output.writeFrame(.synReply, [id], deflater.deflate(SPDYHeaderBlock.bytes(of: [])))
    }

    package mutating func reset(_ id: UInt32, status: UInt32 = SPDYStatus.cancel) {
        guard streams.removeValue(forKey: id) != nil else { return }
        output.writeFrame(.reset, [id, status])
    }

    package mutating func goAway(status: UInt32) { output.writeFrame(.goAway, [lastID, status]) }

    /// Takes off `bytes` what may be sent now.
    ///
    /// - Parameter end: nothing follows on this stream. Said with the last of the bytes.
    /// - Returns: a frame's header and its bytes; nil when nothing may be sent.
    package mutating func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32) -> (header: ByteBuffer, payload: ByteBuffer)? {
        guard var stream = streams[id], !stream.hasEnded else { return nil }
        var count = min(bytes.readableBytes, Self.greatestFrame)
        if peerCounts { count = min(count, max(stream.sendWindow, 0), max(sendWindow, 0)) }
        let isLast = end && count == bytes.readableBytes
        guard count > 0 || isLast, let payload = bytes.readSlice(length: count) else { return nil }
        stream.sendWindow -= count
        sendWindow -= count
        stream.hasEnded = isLast
        store(stream, id)
        var header = ByteBuffer()
        header.writeDataHeader(id: id, length: count, isLast: isLast)
        return (header, payload)
    }

    /// Says that bytes of a stream are no longer held here.
    package mutating func consumed(_ count: Int, of id: UInt32) {
        guard !peerOverruns else { return }
        consumed += count
        if consumed >= Self.initialWindow / 2 {
            output.writeFrame(.windowUpdate, [0, UInt32(consumed)])
            receiveWindow += consumed
            consumed = 0
        }
        guard var stream = streams[id], !stream.hasPeerEnded else { return }
        stream.consumed += count
        if stream.consumed >= Self.initialWindow / 2 {
            output.writeFrame(.windowUpdate, [id, UInt32(stream.consumed)])
            stream.receiveWindow += stream.consumed
            stream.consumed = 0
        }
        streams[id] = stream
    }

    // MARK: Frames

    private mutating func handle(_ frame: SPDYFrame) throws(SPDYConnectionError) {
        switch frame {
        case .synStream(let id, let block, let isLast): try open(id, block, isLast)
        case .synReply(let id, let block, _):
            _ = try inflater.inflate(block)
            fail(id, SPDYStatus.protocolError, "a reply to a stream that this end has not opened")
        case .headers(let id, let block, let isLast):
            let bytes = try inflater.inflate(block)
            guard SPDYHeaderBlock.parse(bytes) != nil else { return fail(id, SPDYStatus.protocolError, "malformed headers") }
            if isLast { endPeer(id) }
        case .reset(let id, let status):
            if streams.removeValue(forKey: id) != nil {
                queued.append(.reset(id: id, reason: "the client has reset the stream (\(status))"))
            }
        case .settings(let settings):
            for setting in settings where setting.id == SPDYFrame.Setting.initialWindowSize { try apply(initialWindow: setting.value) }
        case .ping(let id):
            // Odd ones are the client's; an even one would answer a ping of this end, which sends none.
            if id % 2 == 1 { output.writeFrame(.ping, [id]) }
        case .goAway: queued.append(.goneAway)
        case .windowUpdate(let id, let delta): try open(windowOf: id, by: Int(delta))
        case .data(let id, let bytes, let isLast): try receive(bytes, isLast, on: id)
        }
    }

    private mutating func open(_ id: UInt32, _ block: ByteBuffer, _ isLast: Bool) throws(SPDYConnectionError) {
        // Also of a stream that is refused: the next block goes on from this one.
        let bytes = try inflater.inflate(block)
        guard id % 2 == 1 else { throw SPDYConnectionError("stream \(id) has a server's number") }
        if id == lastID { return fail(id, SPDYStatus.protocolError, "the stream was opened twice") }
        guard id > lastID else { throw SPDYConnectionError("stream \(id) comes after stream \(lastID)") }
        lastID = id
        guard let headers = SPDYHeaderBlock.parse(bytes) else {
            output.writeFrame(.reset, [id, SPDYStatus.protocolError])
            return
        }
        guard streams.count < maximumStreams else {
            output.writeFrame(.reset, [id, SPDYStatus.refusedStream])
            return
        }
        streams[id] = Stream(sendWindow: initialSendWindow)
        queued.append(.opened(id: id, headers: headers))
        if isLast { endPeer(id) }
    }

    private mutating func receive(_ bytes: ByteBuffer, _ isLast: Bool, on id: UInt32) throws(SPDYConnectionError) {
        try takeFromWindow(bytes.readableBytes)
        guard var stream = streams[id], !stream.hasPeerEnded else {
            if streams[id] != nil { return fail(id, SPDYStatus.streamAlreadyClosed, "data behind the end of the stream") }
            // What was on its way when the stream was reset is nobody's fault.
            if id == 0 || id > lastID || id % 2 == 0 { output.writeFrame(.reset, [id, SPDYStatus.invalidStream]) }
            return consumed(bytes.readableBytes, of: id)
        }
        stream.receiveWindow -= bytes.readableBytes
        streams[id] = stream
        if stream.receiveWindow < 0 {
            if peerCounts, !peerOverruns { return fail(id, SPDYStatus.flowControlError, "more data than the stream's window holds") }
            peerOverruns = true
        }
        if bytes.readableBytes > 0 { queued.append(.data(id: id, bytes: bytes)) }
        if isLast { endPeer(id) }
    }

    private mutating func takeFromWindow(_ count: Int) throws(SPDYConnectionError) {
        receiveWindow -= count
        guard receiveWindow < 0 else { return }
        if peerCounts, !peerOverruns { throw SPDYConnectionError("more data than the connection's window holds") }
        peerOverruns = true
    }

    private mutating func endPeer(_ id: UInt32) {
        guard var stream = streams[id], !stream.hasPeerEnded else { return }
        stream.hasPeerEnded = true
        store(stream, id)
        queued.append(.ended(id: id))
    }

    private mutating func store(_ stream: Stream, _ id: UInt32) {
        streams[id] = stream.hasEnded && stream.hasPeerEnded ? nil : stream
    }

    /// Ends a stream by its peer's fault.
    private mutating func fail(_ id: UInt32, _ status: UInt32, _ reason: String) {
        guard id != 0 else { return }
        output.writeFrame(.reset, [id, status])
        if streams.removeValue(forKey: id) != nil { queued.append(.reset(id: id, reason: reason)) }
    }

    // MARK: The peer's windows

    private mutating func apply(initialWindow value: UInt32) throws(SPDYConnectionError) {
        guard let window = Int(exactly: value), window <= Self.greatestWindow else {
            throw SPDYConnectionError("initial window of \(value) bytes")
        }
        let change = window - initialSendWindow
        initialSendWindow = window
        for id in streams.keys { streams[id]?.sendWindow += change }
        peerCounts = true
        if change > 0 { queued.append(.windowOpened(id: nil)) }
    }

    private mutating func open(windowOf id: UInt32, by delta: Int) throws(SPDYConnectionError) {
        peerCounts = true
        if id == 0 {
            sendWindow += delta
            guard sendWindow <= Self.greatestWindow else { throw SPDYConnectionError("connection's window of more than 2^31 - 1 bytes") }
            queued.append(.windowOpened(id: nil))
        } else if let stream = streams[id] {
            guard stream.sendWindow + delta <= Self.greatestWindow else {
                return fail(id, SPDYStatus.flowControlError, "window of more than 2^31 - 1 bytes")
            }
            streams[id]?.sendWindow += delta
            queued.append(.windowOpened(id: id))
        }
    }
}
