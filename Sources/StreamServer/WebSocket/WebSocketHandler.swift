import Errors
import NIOCore
import NIOWebSocket
import StreamFrames

/// Channels in WebSocket messages: the streams of a command, or two for each port.
final class WebSocketHandler: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundIn = Never
    typealias OutboundOut = WebSocketFrame

    /// Answers to pings that may wait for a client that reads none.
    private static let maximumAnswers = 1000

    private var messages: WebSocketMessages
    private let framing: ChannelMessages
    private let idle: IdleWatch
    private let lingering = Lingering()
    private var table: StreamTable?
    private var context: ChannelHandlerContext?
    private let begin: (StreamTable) -> Void
    private var answers = 0
    private var (isHeld, isClosing) = (false, false)

    /// - Parameter begin: opens the streams. No others are taken.
    init(
        _ version: WebSocketProtocol, maximumMessage: Int, idleTimeout: TimeAmount, begin: @escaping (StreamTable) -> Void
    ) {
        messages = WebSocketMessages(maximumMessage: maximumMessage)
        framing = ChannelMessages(version)
        idle = IdleWatch(idleTimeout)
        self.begin = begin
    }

    var failure: (any Error)? { table?.failure }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        let table = StreamTable(carrier: self, eventLoop: context.eventLoop)
        self.table = table
        idle.start(context.eventLoop, { table.lastActivity }) { [weak self] error in self?.end(.goingAway, error) }
        begin(table)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        fail(SwiftletError(.aborted, "the connection has ended"))
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(SwiftletError(.aborted, "the client has closed the connection"))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let fault = WebSocketEnd.fault(error)
        end(fault.code, fault)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        if isClosing {
            if frame.opcode == .connectionClose { context.close(promise: nil) }
            return
        }
        do {
            switch try messages.take(frame) {
            case .message(let message, _): try take(message)
            case .ping(let bytes): try pong(context, bytes)
            case .close: end(.normalClosure, SwiftletError(.cancelled, "the client has closed the connection"))
            case nil: break
            }
        } catch {
            end(error.code, error)
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { answers = 0 }
        table?.flush()
        context.fireChannelWritabilityChanged()
    }

    func read(context: ChannelHandlerContext) {
        if let table, table.holdsReads, !isClosing { isHeld = true } else { context.read() }
    }

    /// Says that nothing follows, and closes when all is sent.
    func finish() { end(.normalClosure, SwiftletError(.aborted, "the session has ended")) }

    private func take(_ message: ByteBuffer) throws(WebSocketFault) {
        switch try framing.decode(message) {
        case .bytes(let bytes, let channel): table?.received(bytes, on: UInt32(channel))
        case .end(let channel): table?.receivedEnd(on: UInt32(channel))
        case nil: break
        }
    }

    private func pong(_ context: ChannelHandlerContext, _ bytes: ByteBuffer) throws(WebSocketFault) {
        if !context.channel.isWritable { answers += 1 }
        guard answers <= Self.maximumAnswers else {
            throw WebSocketFault(code: .policyViolation, description: "the client sends pings and reads no answers")
        }
        context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .pong, data: bytes)), promise: nil)
    }

    private func end(_ code: WebSocketErrorCode, _ error: any Error) {
        guard !isClosing else { return }
        fail(error)
        isClosing = true
        guard let context else { return }
        context.writeAndFlush(wrapOutboundOut(WebSocketEnd.frame(code)), promise: nil)
        lingering.begin(context.channel)
        resumeReading()
    }

    private func fail(_ error: any Error) {
        idle.stop()
        table?.failAll(error)
    }
}

extension WebSocketHandler: StreamCarrier {
    var isWritable: Bool { context?.channel.isWritable ?? false }

    func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32) {
        guard let context, !isClosing else { return }
        // A channel has no end of its own towards the client.
        if !end || bytes.readableBytes > 0 {
            context.writeAndFlush(wrapOutboundOut(framing.frame(bytes, channel: UInt8(id))), promise: nil)
        }
        bytes.moveReaderIndex(to: bytes.writerIndex)
    }

    func consumed(_ count: Int, of id: UInt32) {}

    func sendReset(of id: UInt32) {}

    func resumeReading() {
        guard isHeld, let context else { return }
        isHeld = false
        context.read()
    }
}
