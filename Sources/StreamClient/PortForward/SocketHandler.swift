import Errors
import Glibc
import NIOCore
import StreamFrames

/// A connection of TCP as one stream of bytes.
final class SocketHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = Never
    typealias OutboundOut = ByteBuffer

    /// How long what has been sent may wait for a peer that reads nothing, when its connection is to go.
    private static let patience = TimeAmount.seconds(5)

    private let opened: (ByteStream) -> Void
    private var table: StreamTable?
    private var context: ChannelHandlerContext?
    private var (isHeld, hasEnded) = (false, false)
    /// Writes that the socket has not taken yet.
    private var unsent = 0

    /// - Parameter opened: called on the event loop.
    init(_ opened: @escaping (ByteStream) -> Void) { self.opened = opened }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        let table = StreamTable(carrier: self, eventLoop: context.eventLoop)
        self.table = table
        opened(table.open(0))
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { table?.received(unwrapInboundIn(data), on: 0) }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .inputClosed? = event as? ChannelEvent { table?.receivedEnd(on: 0) }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        // Of a channel whose other direction has ended, the end of this one is told by that alone; a failure was told before.
        if hasEnded { table?.receivedEnd(on: 0) } else { table?.failAll(SwiftletError(.aborted, "the connection has ended")) }
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        table?.failAll(error)
        context.close(promise: nil)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        table?.flush()
        context.fireChannelWritabilityChanged()
    }

    func read(context: ChannelHandlerContext) {
        if table?.holdsReads ?? false { isHeld = true } else { context.read() }
    }
}

extension SocketHandler: StreamCarrier {
    var isWritable: Bool { context?.channel.isWritable ?? false }

    func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32) {
        guard let context, let all = bytes.readSlice(length: bytes.readableBytes) else { return }
        if all.readableBytes > 0 {
            let written = context.eventLoop.makePromise(of: Void.self)
            unsent += 1
            written.futureResult.assumeIsolated().whenComplete { [self] outcome in
                unsent -= 1
                if case .failure(let error) = outcome { table?.failAll(error) }
                endOutputWhenSent()
            }
            context.writeAndFlush(wrapOutboundOut(all), promise: written)
        }
        guard end else { return }
        hasEnded = true
        endOutputWhenSent()
    }

    /// Behind what waits to be sent, which NIO drops of a channel whose other direction has ended already.
    private func endOutputWhenSent() {
        guard hasEnded, unsent == 0, let context else { return }
        context.close(mode: .output, promise: nil)
    }

    func consumed(_ count: Int, of id: UInt32) {}

    /// Ends as a peer does that has failed, so that nobody takes it for the end of the bytes. What was sent and ended still arrives.
    func sendReset(of id: UInt32) {
        guard let channel = context?.channel else { return }
        if hasEnded {
            let timer = channel.eventLoop.scheduleTask(in: Self.patience) { channel.close(promise: nil) }
            channel.closeFuture.whenComplete { _ in timer.cancel() }
            resumeReading()
        } else {
            _ = (channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
            channel.close(promise: nil)
        }
    }

    func resumeReading() {
        guard isHeld, let context else { return }
        isHeld = false
        context.read()
    }
}
