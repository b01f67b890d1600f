import NIOCore

/// One end of a SPDY/3.1 connection, without I/O: bytes in, events out; what is to be sent is in ``takeOutput()`` and in what
/// ``send(_:end:on:)`` returns.
///
/// Flow control is what the peer makes of it. The draft's windows are 64 KiB for a stream and for the connection. moby/spdystream,
/// which kubectl, the API server, the kubelet and containerd use, neither sends WINDOW_UPDATE nor looks at one, and reads only as fast
/// as the streams' users do. So:
/// - bytes are sent without regard to a window until the peer sends SETTINGS with an initial window or WINDOW_UPDATE, and within its
///   windows from then on;
/// - WINDOW_UPDATE is sent for what was consumed until the peer sends more than its window holds, which tells that it counts none.
///   From a peer that does count, that is an error. Whoever owns this machine bounds what it holds by not reading;
/// - a client begins with SETTINGS and a PING. A server that counts answers the first with its own, and the answer to the second says
///   that none will come: until then the client keeps to the draft's windows;
/// - to a peer that counts the connection's window is given back when bytes come, the stream's when they are consumed: a stream that
///   nobody reads holds up no other.
package struct SPDYConnection {
    package enum Role: Sendable {
        case server, client

        /// The other end, in messages.
        package var peer: String { self == .server ? "client" : "server" }
        /// What numbers of streams and pings of this end leave over when they are divided by two.
        fileprivate var parity: UInt32 { self == .server ? 0 : 1 }
    }

    /// Bytes of a window where nobody has said otherwise.
    package static let initialWindow = 64 << 10
    /// What a client lets its server send on a stream, and on all.
    package static let clientWindows = (stream: 256 << 10, connection: 1 << 20)
    private static let clientPing: UInt32 = 1
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
        /// The peer takes no stream behind that one, and ends. Streams of this end behind it were reset before.
        case goneAway(lastID: UInt32, status: UInt32)
    }

    private struct Stream {
        var hasPeerEnded = false
        var hasEnded = false
        /// The server has replied to this client's stream.
        var hasReply = false
        var sendWindow: Int
        var receiveWindow: Int
        /// Consumed, but not yet told.
        var consumed = 0
    }

    package let role: Role
    private let maximumStreams: Int
    private let windows: (stream: Int, connection: Int)
    private var decoder = SPDYFrameDecoder()
    private let inflater = HeaderInflater()
    private let deflater = HeaderDeflater()
    private var streams: [UInt32: Stream] = [:]
    /// The last stream that the peer has opened, and that this end has.
    private var (lastID, lastOwnID): (UInt32, UInt32) = (0, 0)
    /// A GOAWAY has come: no stream can be opened.
    private var isPeerLeaving = false
    /// The peer has shown that it keeps to windows, or that it does not.
    private var (peerCounts, peerOverruns) = (false, false)
    /// A client does not know yet whether its server counts.
    private var isAsking: Bool
    private var hasToldWindow: Bool
    private var initialSendWindow = initialWindow
    private var sendWindow = initialWindow
    private var receiveWindow: Int
    /// Of the connection's window: bytes that are to be told, and those that will be when they are consumed.
    private var (consumed, unconsumed) = (0, 0)
    /// Bytes that this end had to say to the peer's frames, beside WINDOW_UPDATE, which comes of data.
    private var answers = 0
    private var output = ByteBuffer()
    private var queued: [Event] = []

    /// - Parameter maximumStreams: that may be open, of this end for a client, of the peer for a server.
    package init(_ role: Role, maximumStreams: Int) {
        (self.role, self.maximumStreams) = (role, maximumStreams)
        windows = role == .client ? Self.clientWindows : (Self.initialWindow, Self.initialWindow)
        receiveWindow = windows.connection
        (isAsking, hasToldWindow) = (role == .client, role == .client)
        guard role == .client else { return }
        output.writeFrame(.settings, [1, SPDYFrame.Setting.initialWindowSize, UInt32(windows.stream)])
        output.writeFrame(.windowUpdate, [0, UInt32(windows.connection - Self.initialWindow)])
        output.writeFrame(.ping, [Self.clientPing])
    }

    package mutating func receive(_ bytes: ByteBuffer) { decoder.append(bytes) }

    /// Bytes of answers since the last call, which a peer that reads none must not heap up.
    package mutating func takeAnswers() -> Int {
        defer { answers = 0 }
        return answers
    }

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

    /// Opens a stream of this client. Bytes may be sent on it at once.
    ///
    /// - Returns: its number; nil where the server is leaving, or as many as may be are open.
    package mutating func open(_ headers: [(name: String, value: String)]) -> UInt32? {
        let id = lastOwnID == 0 ? 1 : lastOwnID + 2
        guard role == .client, !isPeerLeaving, streams.count < maximumStreams, id <= 0x7FFF_FFFF else { return nil }
        lastOwnID = id
        streams[id] = Stream(sendWindow: initialSendWindow, receiveWindow: windows.stream)
        let block = SPDYHeaderBlock.bytes(of: headers.map { ($0.name.lowercased(), $0.value) })
        // No associated stream, the highest priority, no credential.
        output.writeFrame(.synStream, [id, 0], [0, 0] + deflater.deflate(block))
        return id
    }

    /// Takes a stream that was opened.
    package mutating func accept(_ id: UInt32) {
        guard streams[id] != nil else { return }
        answer(.synReply, [id], deflater.deflate(SPDYHeaderBlock.bytes(of: [])))
    }

    package mutating func reset(_ id: UInt32, status: UInt32 = SPDYStatus.cancel) {
        guard streams.removeValue(forKey: id) != nil else { return }
        answer(.reset, [id, status])
    }

    package mutating func goAway(status: UInt32) { output.writeFrame(.goAway, [lastID, status]) }

    /// Takes off `bytes` what may be sent now.
    ///
    /// - Parameter end: nothing follows on this stream. Said with the last of the bytes.
    /// - Returns: a frame's header and its bytes; nil when nothing may be sent.
    package mutating func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32) -> (header: ByteBuffer, payload: ByteBuffer)? {
        guard var stream = streams[id], !stream.hasEnded else { return nil }
        var count = min(bytes.readableBytes, Self.greatestFrame)
        if peerCounts || isAsking { count = min(count, max(stream.sendWindow, 0), max(sendWindow, 0)) }
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
        giveBack(count)
        guard var stream = streams[id], !stream.hasPeerEnded else { return }
        stream.consumed += count
        if stream.consumed >= windows.stream / 2 {
            output.writeFrame(.windowUpdate, [id, UInt32(stream.consumed)])
            stream.receiveWindow += stream.consumed
            stream.consumed = 0
        }
        streams[id] = stream
    }

    /// Tells the peer of its connection's window, when there is enough to tell.
    private mutating func giveBack(_ count: Int) {
        let count = min(count, unconsumed)
        unconsumed -= count
        consumed += count
        guard consumed >= windows.connection / 2 else { return }
        output.writeFrame(.windowUpdate, [0, UInt32(consumed)])
        receiveWindow += consumed
        consumed = 0
    }

    // MARK: Frames

    private mutating func handle(_ frame: SPDYFrame) throws(SPDYConnectionError) {
        switch frame {
        case .synStream(let id, let block, let isLast): try open(id, block, isLast)
        case .synReply(let id, let block, let isLast): try reply(id, block, isLast)
        case .headers(let id, let block, let isLast):
            let bytes = try inflater.inflate(block)
            guard SPDYHeaderBlock.parse(bytes) != nil else { return fail(id, SPDYStatus.protocolError, "malformed headers") }
            if isLast { endPeer(id) }
        case .reset(let id, let status):
            if streams.removeValue(forKey: id) != nil {
                queued.append(.reset(id: id, reason: "the \(role.peer) has reset the stream (\(SPDYStatus.name(status)))"))
            }
        case .settings(let settings):
            for setting in settings where setting.id == SPDYFrame.Setting.initialWindowSize { try apply(initialWindow: setting.value) }
        case .ping(let id):
            // Of this end's parity, it answers a ping of this end.
            if id % 2 != role.parity {
                answer(.ping, [id])
            } else if isAsking, id == Self.clientPing {
                isAsking = false
                queued.append(.windowOpened(id: nil))
            }
        case .goAway(let lastID, let status): leave(lastID, status)
        case .windowUpdate(let id, let delta): try open(windowOf: id, by: Int(delta))
        case .data(let id, let bytes, let isLast): try receive(bytes, isLast, on: id)
        }
    }

    private mutating func open(_ id: UInt32, _ block: ByteBuffer, _ isLast: Bool) throws(SPDYConnectionError) {
        // Also of a stream that is refused: the next block goes on from this one.
        let bytes = try inflater.inflate(block)
        guard id > 0, id % 2 != role.parity else {
            throw SPDYConnectionError("stream \(id) has a \(role == .server ? "server" : "client")'s number")
        }
        if id == lastID { return fail(id, SPDYStatus.protocolError, "the stream was opened twice") }
        guard id > lastID else { throw SPDYConnectionError("stream \(id) comes after stream \(lastID)") }
        lastID = id
        guard let headers = SPDYHeaderBlock.parse(bytes) else { return answer(.reset, [id, SPDYStatus.protocolError]) }
        // A client takes none.
        guard role == .server, streams.count < maximumStreams else { return answer(.reset, [id, SPDYStatus.refusedStream]) }
        streams[id] = Stream(sendWindow: initialSendWindow, receiveWindow: windows.stream)
        queued.append(.opened(id: id, headers: headers))
        if isLast { endPeer(id) }
    }

    private mutating func reply(_ id: UInt32, _ block: ByteBuffer, _ isLast: Bool) throws(SPDYConnectionError) {
        let bytes = try inflater.inflate(block)
        guard isOwn(id) else { return fail(id, SPDYStatus.protocolError, "a reply to a stream that this end has not opened") }
        // Of a stream that this end has reset meanwhile, it is nobody's fault.
        guard var stream = streams[id] else { return }
        guard !stream.hasReply else { return fail(id, SPDYStatus.streamInUse, "a second reply") }
        guard SPDYHeaderBlock.parse(bytes) != nil else { return fail(id, SPDYStatus.protocolError, "malformed headers") }
        stream.hasReply = true
        streams[id] = stream
        if isLast { endPeer(id) }
    }

    private mutating func leave(_ lastID: UInt32, _ status: UInt32) {
        isPeerLeaving = true
        for id in streams.keys.sorted() where isOwn(id) && id > lastID {
            streams[id] = nil
            queued.append(.reset(id: id, reason: "the \(role.peer) is leaving"))
        }
        queued.append(.goneAway(lastID: lastID, status: status))
    }

    /// Whether this end has opened a stream of this number.
    private func isOwn(_ id: UInt32) -> Bool { id > 0 && id % 2 == role.parity && id <= lastOwnID }

    private mutating func answer(_ kind: SPDYFrame.Kind, _ words: [UInt32], _ block: [UInt8] = []) {
        output.writeFrame(kind, words, block)
        answers += SPDYFrame.headerSize + words.count * 4 + block.count
    }

    private mutating func receive(_ bytes: ByteBuffer, _ isLast: Bool, on id: UInt32) throws(SPDYConnectionError) {
        try takeFromWindow(bytes.readableBytes)
        guard var stream = streams[id], !stream.hasPeerEnded else {
            if streams[id] != nil { return fail(id, SPDYStatus.streamAlreadyClosed, "data behind the end of the stream") }
            // What was on its way when the stream was reset is nobody's fault.
            let wasOpen = role == .client ? isOwn(id) : id > 0 && id <= lastID && id % 2 == 1
            if !wasOpen { answer(.reset, [id, SPDYStatus.invalidStream]) }
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
        unconsumed += count
        guard receiveWindow < 0 else {
            if peerCounts, !peerOverruns { giveBack(unconsumed) }
            return
        }
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
        answer(.reset, [id, status])
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
        (peerCounts, isAsking) = (true, false)
        if !hasToldWindow {
            hasToldWindow = true
            output.writeFrame(.settings, [1, SPDYFrame.Setting.initialWindowSize, UInt32(windows.stream)])
        }
        if change > 0 { queued.append(.windowOpened(id: nil)) }
    }

    private mutating func open(windowOf id: UInt32, by delta: Int) throws(SPDYConnectionError) {
        (peerCounts, isAsking) = (true, false)
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
