import NIOCore
import NIOWebSocket

/// A fault that ends a WebSocket connection, with the code of its close frame (RFC 6455, section 7.4.1).
struct WebSocketFault: Error, Equatable, CustomStringConvertible {
    let code: WebSocketErrorCode
    let description: String
}

/// Frames of a client to messages (RFC 6455, section 5), without I/O.
struct WebSocketMessages {
    enum Event: Equatable {
        case message(ByteBuffer, isText: Bool)
        case ping(ByteBuffer)
        case close
    }

    private let maximumMessage: Int
    private var fragments: (bytes: ByteBuffer, isText: Bool)?

    init(maximumMessage: Int) { self.maximumMessage = maximumMessage }

    mutating func take(_ frame: WebSocketFrame) throws(WebSocketFault) -> Event? {
        guard frame.maskKey != nil else { throw WebSocketFault(code: .protocolError, description: "a client's frame is not masked") }
        guard !frame.rsv1, !frame.rsv2, !frame.rsv3 else {
            throw WebSocketFault(code: .protocolError, description: "a frame of an extension that was not agreed on")
        }
        switch frame.opcode {
        case .text, .binary:
            guard fragments == nil else { throw WebSocketFault(code: .protocolError, description: "a message begins within another") }
            return try add(frame, to: ByteBuffer(), isText: frame.opcode == .text)
        case .continuation:
            guard let begun = fragments else { throw WebSocketFault(code: .protocolError, description: "a message has no beginning") }
            fragments = nil
            return try add(frame, to: begun.bytes, isText: begun.isText)
        case .ping: return .ping(frame.unmaskedData)
        case .pong: return nil
        case .connectionClose: return .close
        default: throw WebSocketFault(code: .protocolError, description: "a frame of an unknown kind (\(frame.opcode))")
        }
    }

    private mutating func add(_ frame: WebSocketFrame, to begun: ByteBuffer, isText: Bool) throws(WebSocketFault) -> Event? {
        guard begun.readableBytes + frame.data.readableBytes <= maximumMessage else {
            throw WebSocketFault(code: .messageTooLarge, description: "a message has more than \(maximumMessage) bytes")
        }
        let unmasked = frame.unmaskedData
        var bytes = begun
        if begun.readableBytes == 0 { bytes = unmasked } else { bytes.writeImmutableBuffer(unmasked) }
        if frame.fin { return .message(bytes, isText: isText) }
        fragments = (bytes, isText)
        return nil
    }
}

/// Messages to a channel's bytes and back: the first byte is the channel, as a digit where the rest is base64.
struct ChannelMessages {
    /// Its message's second byte is the channel on which the client sends no more (v5).
    static let closeSignal: UInt8 = 255

    enum Event: Equatable {
        case bytes(ByteBuffer, channel: UInt8)
        case end(channel: UInt8)
    }

    let isBase64: Bool
    let hasCloseSignal: Bool

    init(_ version: WebSocketProtocol) {
        isBase64 = version.isBase64
        hasCloseSignal = version.session == .command(.v5)
    }

    /// - Returns: nil for a message without bytes, as clients send to be heard of.
    func decode(_ message: ByteBuffer) throws(WebSocketFault) -> Event? {
        var message = message
        guard let first = message.readInteger(as: UInt8.self) else { return nil }
        if hasCloseSignal, first == Self.closeSignal {
            guard let channel = message.readInteger(as: UInt8.self), message.readableBytes == 0 else {
                throw WebSocketFault(code: .protocolError, description: "a close signal does not name one channel")
            }
            return .end(channel: channel)
        }
        guard isBase64 else { return .bytes(message, channel: first) }
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
            throw WebSocketFault(code: .dataInconsistentWithMessage, description: "a message's channel is no digit")
        }
        guard let bytes = Base64Text.decode(message) else {
            throw WebSocketFault(code: .dataInconsistentWithMessage, description: "a message is not base64")
        }
        return .bytes(bytes, channel: first - UInt8(ascii: "0"))
    }

    func frame(_ bytes: ByteBuffer, channel: UInt8) -> WebSocketFrame {
        guard isBase64 else {
            // Two buffers, so that the bytes are not copied.
            return WebSocketFrame(fin: true, opcode: .binary, data: bytes, extensionData: ByteBuffer(integer: channel))
        }
        var text = ByteBuffer(integer: UInt8(ascii: "0") + channel)
        text.writeString(Base64Text.encode(bytes))
        return WebSocketFrame(fin: true, opcode: .text, data: text)
    }
}
