import NIOCore
import NIOWebSocket

/// Bytes in binary messages: a connection of another protocol within a WebSocket.
final class WebSocketTunnel: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = WebSocketFrame

    private var messages: WebSocketMessages
    private let lingering = Lingering()
    private var context: ChannelHandlerContext?
    private var isClosing = false

    init(maximumMessage: Int) { messages = WebSocketMessages(maximumMessage: maximumMessage) }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        if isClosing {
            if frame.opcode == .connectionClose { context.close(promise: nil) }
            return
        }
        do {
            switch try messages.take(frame) {
            case .message(let bytes, isText: false): context.fireChannelRead(wrapInboundOut(bytes))
            case .message: throw WebSocketFault(code: .unacceptableData, description: "a text message within a tunnel of bytes")
            case .ping(let bytes):
                // Behind what waits; a client that floods is stopped by not being read.
                context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .pong, data: bytes)), promise: nil)
            case .close:
                finish(.normalClosure)
                context.close(promise: nil)
            case nil: break
            }
        } catch {
            fail(context, error)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { fail(context, error) }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        context.write(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .binary, data: unwrapOutboundIn(data))), promise: promise)
    }

    /// Says that nothing follows, and closes when all is sent.
    func finish(_ code: WebSocketErrorCode = .normalClosure) {
        guard !isClosing, let context else { return }
        isClosing = true
        context.writeAndFlush(wrapOutboundOut(WebSocketEnd.frame(code)), promise: nil)
        lingering.begin(context.channel)
    }

    private func fail(_ context: ChannelHandlerContext, _ error: any Error) {
        let fault = WebSocketEnd.fault(error)
        context.fireErrorCaught(fault)
        finish(fault.code)
    }
}
