import Crypto
import Foundation
import Glibc
import Support

/// What a scripted server says to a WebSocket.
enum ScriptedWebSocket {
    /// The answer to a request's head.
    static func answer(_ head: String, version: String = "v4.channel.k8s.io") -> [UInt8] {
        let line = head.components(separatedBy: "\r\n").first { $0.lowercased().hasPrefix("sec-websocket-key: ") } ?? ""
        let key = String(line.drop { $0 != " " }.dropFirst())
        let digest = Data(Insecure.SHA1.hash(data: Data((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))).base64EncodedString()
        return Array(
            """
            HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: \(digest)\r\n\
            Sec-WebSocket-Protocol: \(version)\r\n\r\n
            """.utf8)
    }

    /// A frame of less than 64 KiB.
    static func frame(_ bytes: [UInt8], opcode: UInt8 = 2, isLast: Bool = true) -> [UInt8] {
        let first = opcode | (isLast ? 0x80 : 0)
        if bytes.count < 126 { return [first, UInt8(bytes.count)] + bytes }
        return [first, 126, UInt8(bytes.count >> 8), UInt8(bytes.count & 0xFF)] + bytes
    }

    static func text(_ channel: UInt8, _ text: String) -> [UInt8] { frame([channel] + text.utf8) }

    static func close(_ code: UInt16) -> [UInt8] { frame([UInt8(code >> 8), UInt8(code & 0xFF)], opcode: 8) }

    static let success = text(3, #"{"metadata":{},"status":"Success"}"#)
}
