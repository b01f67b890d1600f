import NIOCore
import NIOWebSocket
import Testing

@testable import StreamServer

@Suite struct WebSocketMessagesTests {
    private func frame(_ opcode: WebSocketOpcode, _ bytes: [UInt8], fin: Bool = true, isMasked: Bool = true) -> WebSocketFrame {
        let key: WebSocketMaskingKey? = isMasked ? [1, 2, 3, 4] : nil
        var data = ByteBuffer(bytes: bytes)
        if let key { data.webSocketMask(key) }
        return WebSocketFrame(fin: fin, opcode: opcode, maskKey: key, data: data)
    }

    private func code(_ frames: WebSocketFrame..., limit: Int = 100) -> WebSocketErrorCode? {
        var messages = WebSocketMessages(maximumMessage: limit)
        do throws(WebSocketFault) {
            for frame in frames { _ = try messages.take(frame) }
            return nil
        } catch {
            return error.code
        }
    }

    @Test func fragmentsBecomeOneMessageWithPingsBetween() throws {
        var messages = WebSocketMessages(maximumMessage: 100)
        #expect(try messages.take(frame(.binary, [1, 2], fin: false)) == nil)
        #expect(try messages.take(frame(.ping, [9])) == .ping(ByteBuffer(bytes: [9])))
        #expect(try messages.take(frame(.continuation, [], fin: false)) == nil)
        #expect(try messages.take(frame(.continuation, [3])) == .message(ByteBuffer(bytes: [1, 2, 3]), isText: false))
        #expect(try messages.take(frame(.text, [0x30])) == .message(ByteBuffer(bytes: [0x30]), isText: true))
        #expect(try messages.take(frame(.pong, [])) == nil)
        #expect(try messages.take(frame(.connectionClose, [])) == .close)
    }

    @Test func faultsHaveTheirCodes() {
        #expect(code(frame(.binary, [0, 1], isMasked: false)) == .protocolError)
        #expect(code(frame(.continuation, [0])) == .protocolError)
        #expect(code(frame(.binary, [0], fin: false), frame(.binary, [0])) == .protocolError)
        #expect(code(frame(WebSocketOpcode(encodedWebSocketOpcode: 3) ?? .pong, [])) == .protocolError)
        var reserved = frame(.binary, [0])
        reserved.rsv1 = true
        #expect(code(reserved) == .protocolError)
        #expect(code(frame(.binary, [UInt8](repeating: 0, count: 101))) == .messageTooLarge)
        let half = frame(.binary, [UInt8](repeating: 0, count: 60), fin: false)
        #expect(code(half, frame(.continuation, [UInt8](repeating: 0, count: 41))) == .messageTooLarge)
    }

    @Test func theFirstByteIsTheChannel() throws {
        let v5 = ChannelMessages(try #require(WebSocketProtocol.choose(from: ["v5.channel.k8s.io"], for: request())))
        #expect(try v5.decode(ByteBuffer(bytes: [0, 65])) == .bytes(ByteBuffer(bytes: [65]), channel: 0))
        #expect(try v5.decode(ByteBuffer(bytes: [255, 0])) == .end(channel: 0))
        #expect(try v5.decode(ByteBuffer()) == nil)
        for bytes: [UInt8] in [[255], [255, 0, 0]] {
            #expect(throws: WebSocketFault.self) { try v5.decode(ByteBuffer(bytes: bytes)) }
        }
        let v4 = ChannelMessages(try #require(WebSocketProtocol.choose(from: ["v4.channel.k8s.io"], for: request())))
        #expect(try v4.decode(ByteBuffer(bytes: [255, 0])) == .bytes(ByteBuffer(bytes: [0]), channel: 255))
        let base64 = ChannelMessages(try #require(WebSocketProtocol.choose(from: ["v4.base64.channel.k8s.io"], for: request())))
        #expect(try base64.decode(ByteBuffer(string: "0aGk=")) == .bytes(ByteBuffer(string: "hi"), channel: 0))
        for text in ["xaGk=", "0a", "0====", "0aGk\n"] {
            #expect(throws: WebSocketFault.self, "\(text)") { try base64.decode(ByteBuffer(string: text)) }
        }
        #expect(base64.frame(ByteBuffer(string: "hi"), channel: 2).data == ByteBuffer(string: "2aGk="))
    }

    private func request() throws -> StreamRequest {
        .attach(AttachRequest(containerID: "c", streams: try StreamSet(stdin: true, stdout: true, stderr: true, tty: false)))
    }

    @Test func theClientsFirstVersionThatIsServedIsTaken() throws {
        let asked = ["v9.channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"]
        #expect(try WebSocketProtocol.choose(from: asked, for: request())?.name == "v4.channel.k8s.io")
        #expect(try WebSocketProtocol.choose(from: [], for: request())?.session == .command(.v1))
        #expect(try WebSocketProtocol.choose(from: ["v9.channel.k8s.io"], for: request()) == nil)
        let forward = StreamRequest.portForward(try PortForwardRequest(sandboxID: "s", ports: [1]))
        #expect(WebSocketProtocol.choose(from: ["SPDY/3.1+portforward.k8s.io"], for: forward)?.session == .tunnel)
        #expect(WebSocketProtocol.choose(from: ["v5.channel.k8s.io"], for: forward) == nil)
    }
}
