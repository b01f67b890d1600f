import Crypto
import Errors
import FoundationEssentials
import NIOCore
import NIOHTTP1

/// Messages both ways with back-pressure. Ending what is written begins the closing handshake.
public struct WebSocketConnection: Sendable {
    /// The subprotocol that the server has chosen.
    public let version: String
    public let messages: NIOAsyncChannel<ByteBuffer, ByteBuffer>
}

extension SessionConnector {
    /// Bytes of a message from the server, whatever it is made of.
    private static let maximumMessage = 4 << 20

    /// Connects as a WebSocket.
    ///
    /// - Parameter versions: the subprotocols that are offered, the best first.
    /// - Throws: as ``connect(to:_:start:)``, and where the server chooses none of them.
    public func webSocket(to url: String, versions: [String]) async throws -> WebSocketConnection {
        let key = Data((0..<16).map { _ in UInt8.random(in: .min ... .max) }).base64EncodedString()
        let upgrade = Upgrade(
            "websocket", method: .GET,
            headers: [
                "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": versions.joined(separator: ", "),
            ])
        return try await connect(to: url, upgrade) { headers, channel in
            // RFC 6455, section 4.2.2.
            let digest = Insecure.SHA1.hash(data: Data((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
            guard headers.first(name: "Sec-WebSocket-Accept") == Data(digest).base64EncodedString() else {
                throw SwiftletError(.failedPrecondition, "the server's answer belongs to another WebSocket")
            }
            guard let version = headers.first(name: "Sec-WebSocket-Protocol"), versions.contains(version) else {
                throw SwiftletError(.failedPrecondition, "the server has chosen none of the protocols \(versions.joined(separator: ", "))")
            }
            try channel.pipeline.syncOperations.addHandlers(WebSocketClientHandler.handlers(maximumMessage: Self.maximumMessage))
            return WebSocketConnection(
                version: version,
                messages: try NIOAsyncChannel(
                    wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true)))
        }
    }
}
