import Errors
import NIOCore
import NIOWebSocket

/// The client's end of a WebSocket (RFC 6455): messages as bytes, masked on their way out; pings and the closing handshake.
final class WebSocketClientHandler: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = WebSocketFrame

    private var (hasSentClose, hasEnded) = (false, false)

    /// What takes frames as they are, and messages behind it.
    static func handlers(maximumMessage: Int) -> [any ChannelHandler] {
        [
            WebSocketFrameEncoder(), ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: maximumMessage)),
            NIOWebSocketFrameAggregator(
                minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: 4096, maxAccumulatedFrameSize: maximumMessage),
            WebSocketClientHandler(),
        ]
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !hasEnded else { return }
        let frame = unwrapInboundIn(data)
        switch frame.opcode {
        case .binary, .text: context.fireChannelRead(wrapInboundOut(frame.unmaskedData))
        case .ping:
            // Not answered where answers would pile up: a server that does not read is no use to ping.
            if context.channel.isWritable { send(context, .pong, frame.unmaskedData) }
        case .pong: break
        case .connectionClose:
            var reason = frame.unmaskedData
            end(context, reason.readWebSocketErrorCode())
        default:
            context.fireErrorCaught(SwiftletError(.dataLoss, "the server has sent a WebSocket frame of an unknown kind (\(frame.opcode))"))
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let frame = WebSocketFrame(fin: true, opcode: .binary, maskKey: .random(), data: unwrapOutboundIn(data))
        context.write(wrapOutboundOut(frame), promise: promise)
    }

    /// A WebSocket has no half-closed connections: whoever ends its direction begins the closing handshake.
    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode != .input { sendClose(context, .normalClosure) }
        if mode == .output { promise?.succeed() } else { context.close(mode: mode, promise: promise) }
    }

    private func end(_ context: ChannelHandlerContext, _ code: WebSocketErrorCode?) {
        hasEnded = true
        sendClose(context, code ?? .normalClosure)
        switch code {
        case nil, .normalClosure: context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        case let code?:
            context.fireErrorCaught(
                SwiftletError(.aborted, "the server has closed the WebSocket with code \(UInt16(webSocketErrorCode: code))"))
        }
    }

    private func sendClose(_ context: ChannelHandlerContext, _ code: WebSocketErrorCode) {
        guard !hasSentClose else { return }
        hasSentClose = true
        var data = ByteBuffer()
        data.write(webSocketErrorCode: code)
        send(context, .connectionClose, data)
    }

    private func send(_ context: ChannelHandlerContext, _ opcode: WebSocketOpcode, _ data: ByteBuffer) {
        context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: opcode, maskKey: .random(), data: data)), promise: nil)
    }
}
