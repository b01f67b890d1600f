import NIOCore
import NIOWebSocket

/// The end of a WebSocket connection (RFC 6455, section 7): a close frame, then the client's, then the connection's end.
enum WebSocketEnd {
    static func frame(_ code: WebSocketErrorCode) -> WebSocketFrame {
        var data = ByteBuffer()
        data.write(webSocketErrorCode: code)
        return WebSocketFrame(fin: true, opcode: .connectionClose, data: data)
    }

    static func fault(_ error: any Error) -> WebSocketFault {
        switch error {
        case let fault as WebSocketFault: fault
        case NIOWebSocketError.invalidFrameLength: WebSocketFault(code: .messageTooLarge, description: "a frame is too large")
        default: WebSocketFault(code: .protocolError, description: "not a WebSocket's frame: \(error)")
        }
    }
}
