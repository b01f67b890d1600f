import NIOCore
import NIOEmbedded
import NIOWebSocket
import StreamFrames

@testable import StreamServer

/// What a client sends to a session, as it comes over the wire: in pieces of the first byte's size, to streams that nobody reads.
enum ChannelFuzz {
    private static let mostStreams = 10

    /// The streams of a port-forward over SPDY. What waits is bounded by what came: reading stops, and what was on its way is kept.
    static func streams(_ bytes: [UInt8]) {
        let (streams, opened) = AsyncStream.makeStream(of: ByteStream.self)
        let handler = SPDYHandler(
            maximumStreams: mostStreams, idleTimeout: .hours(4), opened: opened, refusal: PortForwardSession.refusal
        ) { $0.close(promise: nil) }
        feed(bytes, to: [handler]) { handler.failure != nil }
        withExtendedLifetime(streams) {}
    }

    /// A command's channels over WebSocket, binary or base64 by the last bit of the first byte.
    static func frames(_ bytes: [UInt8]) {
        let name = (bytes.first ?? 0) & 1 == 0 ? "v5.channel.k8s.io" : "v4.base64.channel.k8s.io"
        guard let set = try? StreamSet(stdin: true, stdout: true, stderr: false, tty: true),
            let version = WebSocketProtocol.choose(from: [name], for: .attach(AttachRequest(containerID: "c", streams: set)))
        else { return }
        let maximum = 1000
        var open: [ByteStream] = []
        let handler = WebSocketHandler(version, maximumMessage: maximum, idleTimeout: .hours(4)) { table in
            open = [0, 3, 4].map { table.open($0) }
        }
        let frames: [any ChannelHandler] = [
            WebSocketFrameEncoder(), ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: maximum)),
        ]
        feed(bytes, to: frames + [handler]) { handler.failure != nil }
        precondition(open.reduce(0) { $0 + $1.queuedBytes } <= bytes.count)
    }

    /// - Parameter failed: whether the session has.
    private static func feed(_ bytes: [UInt8], to handlers: [any ChannelHandler], _ failed: () -> Bool) {
        let channel = EmbeddedChannel()
        guard (try? channel.pipeline.syncOperations.addHandlers(handlers)) != nil,
            let address = try? SocketAddress(unixDomainSocketPath: "/fuzz")
        else { return }
        channel.connect(to: address, promise: nil)
        let step = Int(bytes.first ?? 0) + 1
        for start in stride(from: 1, to: max(bytes.count, 1), by: step) where channel.isActive {
            guard (try? channel.writeInbound(ByteBuffer(bytes: bytes[start..<min(start + step, bytes.count)]))) != nil else { break }
            while case .some(.some) = try? channel.readOutbound(as: ByteBuffer.self) {}
        }
        channel.embeddedEventLoop.advanceTime(by: .seconds(10))
        _ = try? channel.finish()
        precondition(failed(), "a session whose connection has ended has failed")
    }
}
