import Errors
import NIOCore
import NIOHTTP1
import NIOSSL

/// A connection up to its upgrade: sends one request, reads the answer within bounds, and hands the connection over.
final class UpgradeHandler<Value: Sendable>: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    /// Bytes of a refusal that are quoted, and of an answer's head that are taken.
    private static var maximumText: Int { 4096 }
    private static var maximumHead: Int { 16384 }

    private enum State {
        case waiting
        case accepted(HTTPHeaders)
        case refused(HTTPResponseStatus, ByteBuffer)
        /// HTTP's handlers are on their way out; what the decoder still has comes here.
        case upgrading(HTTPHeaders, [NIOAny])
        case upgraded
        case failed
    }

    private let address: SessionURL
    private let upgrade: SessionConnector.Upgrade
    private let timeout: TimeAmount
    private let start: @Sendable (HTTPHeaders, any Channel) throws -> Value
    private let promise: EventLoopPromise<Value>
    private let gate = ReadGate()
    private var state = State.waiting
    private var timer: Scheduled<Void>?

    init(
        _ address: SessionURL, _ upgrade: SessionConnector.Upgrade, timeout: TimeAmount, on channel: any Channel,
        _ start: @escaping @Sendable (HTTPHeaders, any Channel) throws -> Value
    ) {
        (self.address, self.upgrade, self.timeout, self.start) = (address, upgrade, timeout, start)
        promise = channel.eventLoop.makePromise(of: Value.self)
    }

    /// What `start` has returned.
    var value: EventLoopFuture<Value> { promise.futureResult }

    func configure(_ channel: any Channel) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = Self.maximumHead
        limits.maxHeaderListSize = Self.maximumHead
        limits.maxHeaderFieldCount = 100
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(gate, name: "gate")
        try pipeline.addHandler(HTTPRequestEncoder(), name: "encoder")
        // It sees the request, as its own way out, and knows by it what the answer may be.
        let decoder = HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits)
        try pipeline.addHandler(ByteToMessageHandler(decoder), name: "decoder")
        try pipeline.addHandler(self, name: "upgrade")
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let loopBound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) {
            let (handler, context) = loopBound.value
            handler.fail(
                context, SwiftletError(.deadlineExceeded, "no answer within \(handler.timeout.nanoseconds / 1_000_000) ms"))
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        fail(context, SwiftletError(.unavailable, "the connection has ended"))
    }

    func channelActive(context: ChannelHandlerContext) {
        var headers = upgrade.headers
        headers.replaceOrAdd(name: "Host", value: address.authority)
        headers.replaceOrAdd(name: "Connection", value: "Upgrade")
        headers.replaceOrAdd(name: "Upgrade", value: upgrade.name)
        // Without it, the encoder would send a body of no chunks, which the server would take for the upgraded connection's bytes.
        if upgrade.method != .GET { headers.replaceOrAdd(name: "Content-Length", value: "0") }
        let head = HTTPRequestHead(version: .http1_1, method: upgrade.method, uri: address.target, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch state {
        case .upgraded: return context.fireChannelRead(data)
        case .upgrading(let headers, let bytes):
            state = .upgrading(headers, bytes + [data])
            return
        case .failed: return
        case .waiting, .accepted, .refused: break
        }
        switch (unwrapInboundIn(data), state) {
        case (.head(let head), .waiting):
            if head.status == .switchingProtocols {
                guard head.headers[canonicalForm: "Upgrade"].contains(where: { $0.lowercased() == upgrade.name.lowercased() }) else {
                    return fail(context, SwiftletError(.failedPrecondition, "the server has not upgraded to \(upgrade.name)"))
                }
                gate.close()
                state = .accepted(head.headers)
            } else {
                state = .refused(head.status, ByteBuffer())
            }
        case (.body(var bytes), .refused(let status, var text)):
            if let part = bytes.readSlice(length: min(bytes.readableBytes, Self.maximumText - text.readableBytes)) {
                text.writeImmutableBuffer(part)
            }
            state = .refused(status, text)
            if text.readableBytes == Self.maximumText { refuse(context) }
        case (.end, .refused): refuse(context)
        case (.end, .accepted(let headers)): leaveHTTP(context, headers)
        default: break
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .upgraded = state { return context.fireUserInboundEventTriggered(event) }
        guard event as? ChannelEvent == .inputClosed else { return }
        refuse(context)
        fail(context, SwiftletError(.unavailable, "the server has closed the connection without an answer"))
    }

    func channelInactive(context: ChannelHandlerContext) {
        if case .upgraded = state { return context.fireChannelInactive() }
        refuse(context)
        fail(context, SwiftletError(.unavailable, "the server has closed the connection without an answer"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case .upgraded = state { return context.fireErrorCaught(error) }
        let reason =
            switch error {
            case is HTTPParserError: "the server does not speak HTTP/1.1"
            case is NIOSSLError, is NIOSSLExtraError: "TLS has failed"
            default: "the connection has failed"
            }
        fail(context, SwiftletError(.unavailable, reason, cause: error))
    }

    private func leaveHTTP(_ context: ChannelHandlerContext, _ headers: HTTPHeaders) {
        state = .upgrading(headers, [])
        let pipeline = context.pipeline.syncOperations
        pipeline.removeHandler(name: "encoder", promise: nil)
        let removed = context.eventLoop.makePromise(of: Void.self)
        pipeline.removeHandler(name: "decoder", promise: removed)
        let loopBound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        removed.futureResult.whenComplete { _ in
            let (handler, context) = loopBound.value
            handler.finish(context)
        }
    }

    private func finish(_ context: ChannelHandlerContext) {
        guard case .upgrading(let headers, let bytes) = state else { return }
        let pipeline = context.pipeline.syncOperations
        do {
            let value = try start(headers, context.channel)
            let gateContext = try pipeline.context(handler: gate)
            state = .upgraded
            timer?.cancel()
            promise.succeed(value)
            for part in bytes { context.fireChannelRead(part) }
            context.fireChannelReadComplete()
            gate.open(gateContext)
            pipeline.removeHandler(gate, promise: nil)
            pipeline.removeHandler(self, promise: nil)
        } catch {
            fail(context, error)
        }
    }

    private func refuse(_ context: ChannelHandlerContext) {
        guard case .refused(let status, let text) = state else { return }
        let code: SwiftletError.Code =
            switch status {
            case .notFound: .notFound
            case .forbidden: .permissionDenied
            default: .failedPrecondition
            }
        let said = String(buffer: text).split(whereSeparator: \.isNewline).joined(separator: " ")
        fail(context, SwiftletError(code, "the server answers \(status.code) \(status.reasonPhrase)\(said.isEmpty ? "" : ": \(said)")"))
    }

    private func fail(_ context: ChannelHandlerContext, _ error: any Error) {
        switch state {
        case .upgraded, .failed: return
        case .waiting, .accepted, .refused, .upgrading: break
        }
        state = .failed
        timer?.cancel()
        promise.fail(error)
        context.close(promise: nil)
    }
}
