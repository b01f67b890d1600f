import Foundation
import NIOCore
import NIOWebSocket
import StreamFrames

@testable import StreamServer

/// What a client of the streaming server sends.
enum StreamFuzz {
    /// A connection's bytes, in pieces of the first byte's size, with an owner that takes each stream and answers.
    static func spdy(_ bytes: [UInt8]) {
        var connection = SPDYConnection(.server, maximumStreams: 10)
        let step = Int(bytes.first ?? 0) + 1
        var open: Set<UInt32> = []
        for start in stride(from: 1, to: max(bytes.count, 1), by: step) {
            connection.receive(ByteBuffer(bytes: bytes[start..<min(start + step, bytes.count)]))
            do {
                while let event = try connection.next() {
                    switch event {
                    case .opened(let id, _):
                        precondition(open.insert(id).inserted && open.count <= 10)
                        connection.accept(id)
                    case .data(let id, let bytes):
                        connection.consumed(bytes.readableBytes, of: id)
                        var answer = bytes
                        _ = connection.send(&answer, end: false, on: id)
                    case .ended(let id):
                        // Ended here as well, so that the stream is gone.
                        var rest = ByteBuffer()
                        _ = connection.send(&rest, end: true, on: id)
                        open.remove(id)
                    case .reset(let id, _): open.remove(id)
                    case .windowOpened, .goneAway: break
                    }
                }
            } catch {
                return connection.goAway(status: 1)
            }
            _ = connection.takeOutput()
        }
    }

    /// A server's bytes to a client with open streams, as ``spdy(_:)``: it takes what comes, and sends it back.
    static func spdyClient(_ bytes: [UInt8]) {
        var connection = SPDYConnection(.client, maximumStreams: 4)
        let step = Int(bytes.first ?? 0) + 1
        var open = Set((0..<3).compactMap { _ in connection.open([("streamType", "data")]) })
        for start in stride(from: 1, to: max(bytes.count, 1), by: step) {
            connection.receive(ByteBuffer(bytes: bytes[start..<min(start + step, bytes.count)]))
            do {
                while let event = try connection.next() {
                    switch event {
                    case .opened: preconditionFailure("a client takes no streams")
                    case .data(let id, let bytes):
                        precondition(open.contains(id))
                        connection.consumed(bytes.readableBytes, of: id)
                        var answer = bytes
                        _ = connection.send(&answer, end: false, on: id)
                    case .ended(let id):
                        var rest = ByteBuffer()
                        _ = connection.send(&rest, end: true, on: id)
                        open.remove(id)
                    case .reset(let id, _): precondition(open.remove(id) != nil)
                    case .goneAway: precondition(connection.open([]) == nil)
                    case .windowOpened: if let id = connection.open([]) { precondition(open.insert(id).inserted && open.count <= 4) }
                    }
                }
            } catch {
                return connection.goAway(status: 1)
            }
            _ = connection.takeOutput()
        }
    }

    /// Blocks as they are before compression, compressed, and taken for compressed.
    static func headers(_ bytes: [UInt8]) {
        if let headers = SPDYHeaderBlock.parse(bytes) {
            precondition(headers.count <= SPDYHeaderBlock.maximumPairs)
            _ = PortForwardSession.refusal(headers)
        }
        if bytes.count <= SPDYHeaderBlock.maximumSize {
            precondition(
                (try? HeaderInflater().inflate(ByteBuffer(bytes: HeaderDeflater().deflate([0] + bytes)))) == [0] + bytes
                    || bytes.count == SPDYHeaderBlock.maximumSize)
        }
        if let inflated = try? HeaderInflater().inflate(ByteBuffer(bytes: bytes)) {
            precondition(inflated.count <= SPDYHeaderBlock.maximumSize)
        }
    }

    /// Frames, each as a byte of opcode and flags, one of length, and the bytes; all versions' messages of them, and sizes.
    static func webSocket(_ bytes: [UInt8]) {
        for name in ["v5.channel.k8s.io", "v4.base64.channel.k8s.io"] {
            guard let set = try? StreamSet(stdin: true, stdout: true, stderr: false, tty: true),
                let version = WebSocketProtocol.choose(from: [name], for: .attach(AttachRequest(containerID: "c", streams: set)))
            else { return }
            var (messages, sizes) = (WebSocketMessages(maximumMessage: 1000), TerminalSizeDecoder())
            let framing = ChannelMessages(version)
            var rest = bytes[...]
            while let first = rest.popFirst(), let length = rest.popFirst() {
                let payload = rest.prefix(Int(length))
                rest = rest.dropFirst(Int(length))
                let frame = WebSocketFrame(
                    fin: first & 0x80 == 0, rsv1: first & 0x40 != 0, opcode: WebSocketOpcode(encodedWebSocketOpcode: first & 0x0F) ?? .pong,
                    maskKey: first & 0x20 == 0 ? [first, length, 0, 1] : nil, data: ByteBuffer(bytes: payload))
                do throws(WebSocketFault) {
                    guard case .message(let message, _) = try messages.take(frame) else { continue }
                    precondition(message.readableBytes <= 1000)
                    guard case .bytes(let bytes, let channel) = try framing.decode(message) else { continue }
                    if channel == 4 { _ = sizes.take(bytes.readableBytesView) }
                    if channel < 10 {
                        let back = framing.frame(bytes, channel: channel)
                        var whole = back.extensionData ?? ByteBuffer()
                        whole.writeImmutableBuffer(back.data)
                        guard case .bytes(let again, channel) = try framing.decode(whole), again == bytes else { preconditionFailure(name) }
                    }
                } catch {
                    break
                }
            }
        }
    }

    /// What a port-forward's client says: the headers of a stream, and the ports of a request.
    static func portForward(_ bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self)
        if let port = PortForwardSession.port(["port": text]) {
            precondition(port > 0 && PortForwardChannels.prefix(port).readableBytes == 2 && UInt16(text) == port)
        }
        var buffer = ByteBuffer(bytes: bytes)
        while let number = buffer.readInteger(as: Int32.self) {
            guard let request = try? PortForwardRequest(sandboxID: text, ports: [number]) else { continue }
            precondition(request.ports.map(Int32.init) == [number] && number > 0)
        }
    }

    /// A terminal's sizes: what they are does not depend on the pieces in which they come.
    static func resize(_ bytes: [UInt8]) {
        var (whole, pieces) = (TerminalSizeDecoder(), TerminalSizeDecoder())
        let step = Int(bytes.first ?? 0) + 1
        var last: TerminalSize?
        for start in stride(from: 1, to: max(bytes.count, 1), by: step) {
            last = pieces.take(bytes[start..<min(start + step, bytes.count)]) ?? last
        }
        precondition(whole.take(bytes.dropFirst()) == last)
        // Whatever came before, the next size is read.
        precondition(pieces.take(Array(#"{"Width":80,"Height":24}"#.utf8)) == TerminalSize(width: 80, height: 24))
    }

    /// Taken for base64, and made to it.
    static func base64(_ bytes: [UInt8]) {
        let text = Base64Text.encode(ByteBuffer(bytes: bytes))
        precondition(Base64Text.decode(ByteBuffer(string: text)) == ByteBuffer(bytes: bytes))
        let foundation = Data(base64Encoded: Data(bytes))
        guard let decoded = Base64Text.decode(ByteBuffer(bytes: bytes)) else { return }
        precondition(foundation == Data(decoded.readableBytesView) && decoded.readableBytes <= bytes.count / 4 * 3)
    }
}
