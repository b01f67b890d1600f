import Errors
import NIOCore

/// SPDY/3.1 on a channel of bytes.
package final class SPDYHandler: ChannelDuplexHandler {
    package typealias InboundIn = ByteBuffer
    package typealias OutboundIn = Never
    package typealias OutboundOut = ByteBuffer

    /// Bytes of answers to control frames that may wait for a client that reads none.
    private static let maximumAnswers = 64 << 10

    private var connection: SPDYConnection
    private var table: StreamTable?
    private var context: ChannelHandlerContext?
    private let opened: AsyncStream<ByteStream>.Continuation
    /// What a stream with these headers is refused for; nil takes it.
    private let refusal: ([String: String]) -> String?
    private let close: (any Channel) -> Void
    private let idle: IdleWatch
    private var answers = 0
    private var (isHeld, isClosing) = (false, false)

    /// - Parameter close: ends the channel when all has been sent.
    package init(
        maximumStreams: Int, idleTimeout: TimeAmount, opened: AsyncStream<ByteStream>.Continuation,
        refusal: @escaping ([String: String]) -> String?, close: @escaping (any Channel) -> Void
    ) {
        connection = SPDYConnection(maximumStreams: maximumStreams)
        idle = IdleWatch(idleTimeout)
        (self.opened, self.refusal, self.close) = (opened, refusal, close)
    }

    package var failure: (any Error)? { table?.failure }

    package func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        let table = StreamTable(carrier: self, eventLoop: context.eventLoop)
        self.table = table
        idle.start(context.eventLoop, { table.lastActivity }) { [weak self] error in self?.end(with: error) }
    }

    package func handlerRemoved(context: ChannelHandlerContext) {
        fail(SwiftletError(.aborted, "the connection has ended"))
        self.context = nil
    }

    package func channelInactive(context: ChannelHandlerContext) {
        fail(SwiftletError(.aborted, "the client has closed the connection"))
        context.fireChannelInactive()
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
            opened.yield(table.open(id, headers))
        case .data(let id, let bytes): table.received(bytes, on: id)
        case .ended(let id): table.receivedEnd(on: id)
        case .reset(let id, let reason): table.fail(id, SwiftletError(.aborted, reason))
        case .windowOpened: table.flush()
        case .goneAway: break
        }
    }

    private func countAnswers() throws {
        guard let context, !context.channel.isWritable else { return }
        answers += connection.pendingOutput
        guard answers <= Self.maximumAnswers else { throw SPDYConnectionError("the client sends frames and reads no answers") }
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
        idle.stop()
        opened.finish()
        table?.failAll(error)
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
