import Errors
import NIOCore
import NIOWebSocket
import StreamFrames

extension ServerCore {
    /// What serves a connection upgraded to a WebSocket, and begins its session.
    func webSocketHandlers(_ request: StreamRequest, _ version: WebSocketProtocol, _ channel: any Channel) throws -> [any ChannelHandler] {
        let frames: [any ChannelHandler] = [
            WebSocketFrameEncoder(), ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: configuration.maximumMessage)),
        ]
        switch version.session {
        case .tunnel:
            let tunnel = WebSocketTunnel(maximumMessage: configuration.maximumMessage)
            return frames + [tunnel, spdyHandler(request, .portForward, channel) { _ in tunnel.finish() }]
        case .command(let command):
            return frames + [try commandHandler(request, version, command, channel)]
        case .portForward:
            return frames + [try forwardHandler(request, version, channel)]
        }
    }

    private func commandHandler(
        _ request: StreamRequest, _ version: WebSocketProtocol, _ command: CommandProtocol, _ channel: any Channel
    ) throws -> WebSocketHandler {
        let session = try session(request, command)
        let (streams, opened) = AsyncStream.makeStream(of: ByteStream.self)
        let expected = CommandStream.expected(session.set, command)
        let handler = webSocketHandler(version) { table in
            for type in CommandStream.allCases where expected.contains(type) {
                opened.yield(table.open(UInt32(type.channel), ["streamtype": type.rawValue]))
            }
            opened.finish()
        }
        let greeting: CommandStream = session.set.stdout ? .stdout : session.set.stderr ? .stderr : .error
        let bound = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        serve(request, channel, finish: { bound.value.finish() }, failure: { bound.value.failure }) { _ in
            try await session.run(streams, greeting: greeting)
        }
        return handler
    }

    private func forwardHandler(_ request: StreamRequest, _ version: WebSocketProtocol, _ channel: any Channel) throws -> WebSocketHandler {
        let session = try forwarding(request)
        // A channel is a byte, as a digit in base64.
        let maximum = version.isBase64 ? 5 : 128
        guard !session.request.ports.isEmpty, session.request.ports.count <= maximum else {
            throw SwiftletError(.invalidArgument, "\(session.request.ports.count) ports are asked for; a WebSocket carries 1 to \(maximum)")
        }
        let (streams, opened) = AsyncStream.makeStream(of: ByteStream.self)
        let handler = webSocketHandler(version) { table in
            for number in 0..<UInt32(session.request.ports.count * 2) { opened.yield(table.open(number)) }
            opened.finish()
        }
        let bound = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        serve(request, channel, finish: { bound.value.finish() }, failure: { bound.value.failure }) { _ in
            var channels: [ByteStream] = []
            for await stream in streams { channels.append(stream) }
            try await PortForwardChannels(request: session.request, backend: session.backend).run(channels)
        }
        return handler
    }

    private func webSocketHandler(_ version: WebSocketProtocol, _ begin: @escaping (StreamTable) -> Void) -> WebSocketHandler {
        WebSocketHandler(
            version, maximumMessage: configuration.maximumMessage, idleTimeout: configuration.idleTimeout, begin: begin)
    }
}
