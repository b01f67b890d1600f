import Errors
import NIOCore

/// One end of SPDY/3.1 on a channel of bytes.
package final class SPDYHandler: ChannelDuplexHandler {
    package typealias InboundIn = ByteBuffer
    package typealias OutboundIn = Never
    package typealias OutboundOut = ByteBuffer

    /// Bytes of answers to control frames that may wait for a peer that reads none.
    private static let maximumAnswers = 64 << 10
    /// Bytes of all streams that may wait for a client's readers: with a window for each, no other is held up before.
    private static let clientLimit = 64 << 20

    private var connection: SPDYConnection
    private var table: StreamTable?
    private var context: ChannelHandlerContext?
    /// Of a server: the streams that the client opens.
    private let opened: AsyncStream<ByteStream>.Continuation?
    /// What a stream with these headers is refused for; nil takes it.
    private let refusal: ([String: String]) -> String?
    private let close: (any Channel) -> Void
    private let idle: IdleWatch?
    private var onFailure: ((any Error) -> Void)?
    private var answers = 0
    /// With what status the peer is leaving.
    private var farewell: UInt32?
    private var (isHeld, isClosing) = (false, false)

    /// The server's end.
    ///
    /// - Parameter close: ends the channel when all has been sent.
    package init(
        maximumStreams: Int, idleTimeout: TimeAmount, opened: AsyncStream<ByteStream>.Continuation,
        refusal: @escaping ([String: String]) -> String?, close: @escaping (any Channel) -> Void
    ) {
        connection = SPDYConnection(.server, maximumStreams: maximumStreams)
        idle = IdleWatch(idleTimeout)
        (self.opened, self.refusal, self.close) = (opened, refusal, close)
    }

    /// The client's end.
    ///
    /// - Parameters:
    ///   - close: ends the channel when all has been sent.
    ///   - onFailure: called once, with what has ended the connection, on the event loop.
    package init(maximumStreams: Int, close: @escaping (any Channel) -> Void, onFailure: @escaping (any Error) -> Void) {
        connection = SPDYConnection(.client, maximumStreams: maximumStreams)
        (self.close, self.onFailure, opened, idle) = (close, onFailure, nil, nil)
        refusal = { _ in "a client takes no streams" }
    }

    package var failure: (any Error)? { table?.failure }

    private var peer: String { connection.role.peer }

    /// Opens a stream of this client. Bytes may be sent on it at once.
    ///
    /// - Throws: `.aborted` where the connection has ended or its server is leaving, `.resourceExhausted` where too many are open.
    package func open(_ headers: [(name: String, value: String)]) throws -> ByteStream {
        guard let table, !isClosing, farewell == nil else {
            throw failure ?? SwiftletError(.aborted, "the \(peer) has ended the connection")
        }
        guard let id = connection.open(headers) else { throw SwiftletError(.resourceExhausted, "too many streams are open") }
        let stream = table.open(id, Dictionary(headers.map { ($0.name.lowercased(), $0.value) }) { first, _ in first })
        writeOutput()
        context?.flush()
        return stream
    }

    package func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        let limit = connection.role == .client ? Self.clientLimit : StreamTable.connectionLimit
        let table = StreamTable(carrier: self, eventLoop: context.eventLoop, connectionLimit: limit)
        self.table = table
        // What a client begins with.
        if context.channel.isActive {
            writeOutput()
            context.flush()
        }
        idle?.start(context.eventLoop, { table.lastActivity }) { [weak self] error in self?.end(with: error) }
    }

    package func handlerRemoved(context: ChannelHandlerContext) {
        fail(SwiftletError(.aborted, "the connection has ended"))
        self.context = nil
    }

    package func channelInactive(context: ChannelHandlerContext) {
        fail(closure)
        context.fireChannelInactive()
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // Where the channel may be half closed.
        if case .inputClosed? = event as? ChannelEvent { end(with: closure) }
        context.fireUserInboundEventTriggered(event)
    }

    /// That the peer has closed the connection, and what it has said before.
    private var closure: SwiftletError {
        let status = farewell ?? 0
        return SwiftletError(
            .aborted, "the \(peer) has closed the connection" + (status == 0 ? "" : " for an error of the protocol (\(status))"))
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) { end(with: error) }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        connection.receive(unwrapInboundIn(data))
        do {
            while !isClosing, let event = try connection.next() {
                handle(event)
            }
            try countAnswers()
            writeOutput()
        } catch {
            connection.goAway(status: 1)
            end(with: error)
        }
    }

    package func channelReadComplete(context: ChannelHandlerContext) {
        context.flush()
        context.fireChannelReadComplete()
    }

    package func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { answers = 0 }
        table?.flush()
        context.fireChannelWritabilityChanged()
    }

    package func read(context: ChannelHandlerContext) {
        if let table, table.holdsReads, !isClosing { isHeld = true } else { context.read() }
    }

    /// Says that nothing follows, and closes when all is sent.
    package func finish() {
        guard !isClosing else { return }
        connection.goAway(status: 0)
        leave()
    }

    private func handle(_ event: SPDYConnection.Event) {
        guard let table else { return }
        switch event {
        case .opened(let id, let headers):
            guard refusal(headers) == nil else { return connection.reset(id, status: SPDYStatus.refusedStream) }
            connection.accept(id)
            opened?.yield(table.open(id, headers))
        case .data(let id, let bytes): table.received(bytes, on: id)
        case .ended(let id): table.receivedEnd(on: id)
        case .reset(let id, let reason): table.fail(id, SwiftletError(.aborted, reason))
        case .windowOpened: table.flush()
        case .goneAway(_, let status): farewell = status
        }
    }

    private func countAnswers() throws {
        let new = connection.takeAnswers()
        guard let context, !context.channel.isWritable else { return }
        answers += new
        guard answers <= Self.maximumAnswers else { throw SPDYConnectionError("the \(peer) sends frames and reads no answers") }
    }

    private func writeOutput() {
        guard let context, let bytes = connection.takeOutput() else { return }
        context.write(wrapOutboundOut(bytes), promise: nil)
    }

    private func end(with error: any Error) {
        guard !isClosing else { return }
        fail(error)
        leave()
    }

    private func leave() {
        isClosing = true
        writeOutput()
        guard let context else { return }
        context.flush()
        close(context.channel)
        resumeReading()
    }

    private func fail(_ error: any Error) {
        idle?.stop()
        opened?.finish()
        table?.failAll(error)
        onFailure?(error)
        onFailure = nil
    }
}

extension SPDYHandler: StreamCarrier {
    package var isWritable: Bool { context?.channel.isWritable ?? false }

    package func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32) {
        guard let context, !isClosing else { return }
        // Whatever comes of it, the stream was accepted before.
        writeOutput()
        while let frame = connection.send(&bytes, end: end, on: id) {
            context.write(wrapOutboundOut(frame.header), promise: nil)
            if frame.payload.readableBytes > 0 { context.write(wrapOutboundOut(frame.payload), promise: nil) }
        }
        context.flush()
    }

    package func consumed(_ count: Int, of id: UInt32) {
        connection.consumed(count, of: id)
        guard let context, let bytes = connection.takeOutput() else { return }
        context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
    }

    package func sendReset(of id: UInt32) {
        connection.reset(id)
        guard let context, let bytes = connection.takeOutput() else { return }
        context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
    }

    package func resumeReading() {
        guard isHeld, let context else { return }
        isHeld = false
        context.read()
    }
}
