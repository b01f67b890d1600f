import Errors
import Logging
import NIOCore
import NIOHTTP1

/// A connection up to its upgrade: reads one request's head within bounds, answers it, and hands the connection over.
final class UpgradeHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case waiting
        case admitted(Admission)
        case upgraded
        case answered
    }

    private let server: ServerCore
    private var state = State.waiting
    private var timer: Scheduled<Void>?
    private var requestVersion = HTTPVersion.http1_1

    init(_ server: ServerCore) { self.server = server }

    /// The handlers of a fresh connection.
    static func configure(_ channel: any Channel, _ server: ServerCore) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = server.configuration.maximumHead
        limits.maxHeaderListSize = server.configuration.maximumHead
        limits.maxHeaderFieldCount = 100
        let pipeline = channel.pipeline.syncOperations
        // A head that is not whole is as large as what the decoder holds of it.
        let decoder = ByteToMessageHandler(
            HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits),
            maximumBufferSize: server.configuration.maximumHead)
        try pipeline.addHandler(decoder, name: "decoder")
        try pipeline.addHandler(HTTPResponseEncoder(), name: "encoder")
        try pipeline.addHandler(UpgradeHandler(server), name: "upgrade")
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: server.configuration.headTimeout) { [weak self] in
            self?.giveUp(channel, "no request within \((self?.server.configuration.headTimeout.nanoseconds ?? 0) / 1_000_000) ms")
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .upgraded = state { return context.fireChannelRead(data) }
        switch (unwrapInboundIn(data), state) {
        case (.head(let head), .waiting):
            requestVersion = head.version
            switch Admission(head, server.tokens) {
            case .refused(let status, let text, let headers):
                log(context.channel, "refused with \(status.code): \(text)")
                answer(context, status, text, headers)
            case let admission:
                // Only an upgrade's bytes may follow: with a body, they would be taken for one.
                guard !head.headers.contains(name: "Transfer-Encoding"), Int(head.headers.first(name: "Content-Length") ?? "0") == 0 else {
                    return answer(context, .badRequest, "unable to upgrade: the request has a body", [:])
                }
                state = .admitted(admission)
            }
        case (.end, .admitted(let admission)):
            timer?.cancel()
            do {
                try upgrade(context, admission)
            } catch {
                log(context.channel, "the upgrade failed: \(error)")
                context.close(promise: nil)
            }
        default: break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch state {
        case .waiting, .admitted:
            log(context.channel, "the request is not HTTP/1.1, or too large: \(error)")
            answer(context, .badRequest, "malformed request, or one that is too large", [:])
        // What follows is passed over, so that the answer arrives: the end lingers.
        case .answered: break
        case .upgraded: context.fireErrorCaught(error)
        }
    }

    private func upgrade(_ context: ChannelHandlerContext, _ admission: Admission) throws {
        let headers: HTTPHeaders
        switch admission {
        case .spdy(_, _, let answer), .webSocket(_, _, let answer): headers = answer
        case .refused: return
        }
        context.write(
            wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        state = .upgraded
        let pipeline = context.pipeline.syncOperations
        let handlers = try server.sessionHandlers(admission, context.channel)
        try pipeline.addHandlers(handlers, position: .after(self))
        // The encoder first: from now on bytes are bytes. The decoder hands on what it holds, through this handler.
        pipeline.removeHandler(name: "encoder", promise: nil)
        let removed = context.eventLoop.makePromise(of: Void.self)
        pipeline.removeHandler(name: "decoder", promise: removed)
        let loopBound = NIOLoopBound((self, pipeline), eventLoop: context.eventLoop)
        removed.futureResult.whenComplete { _ in loopBound.value.1.removeHandler(loopBound.value.0, promise: nil) }
    }

    private func answer(_ context: ChannelHandlerContext, _ status: HTTPResponseStatus, _ text: String, _ headers: HTTPHeaders) {
        state = .answered
        let body = context.channel.allocator.buffer(string: text + "\n")
        var headers = headers
        headers.add(name: "Content-Type", value: "text/plain; charset=utf-8")
        headers.add(name: "Content-Length", value: "\(body.readableBytes)")
        headers.add(name: "Connection", value: "close")
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: requestVersion, status: status, headers: headers))), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in Lingering().begin(channel) }
    }

    private func giveUp(_ channel: any Channel, _ reason: String) {
        guard case .waiting = state else { return }
        state = .answered
        log(channel, reason)
        channel.close(promise: nil)
    }

    private func log(_ channel: any Channel, _ reason: String) {
        server.logger.warning("streaming client \(channel.remoteAddress?.description ?? "?"): \(reason)")
    }
}
