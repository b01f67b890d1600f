import NIOCore

/// Holds what is read behind the head of an upgrade's answer until HTTP's handlers are gone. NIO's decoder drops the bytes that it still has
/// when the connection's end comes before its removal, which takes a turn of the event loop.
final class ReadGate: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private enum Held {
        case bytes(ByteBuffer)
        case event(ChannelEvent)
        case error(any Error)
        case end
    }

    /// Nil while the gate is open.
    private var held: [Held]?

    func close() { held = held ?? [] }

    func open(_ context: ChannelHandlerContext) {
        guard let held else { return }
        self.held = nil
        for event in held {
            switch event {
            case .bytes(let bytes): context.fireChannelRead(wrapInboundOut(bytes))
            case .event(let event): context.fireUserInboundEventTriggered(event)
            case .error(let error): context.fireErrorCaught(error)
            case .end: context.fireChannelInactive()
            }
        }
        context.fireChannelReadComplete()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if held == nil { context.fireChannelRead(data) } else { held?.append(.bytes(unwrapInboundIn(data))) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if held != nil, let event = event as? ChannelEvent {
            held?.append(.event(event))
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if held == nil { context.fireErrorCaught(error) } else { held?.append(.error(error)) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        if held == nil { context.fireChannelInactive() } else { held?.append(.end) }
    }
}
