import Errors
import Foundation
import Glibc
import Support

@testable import StreamServer

/// A client that sends whatever bytes, over a socket of its own. Its calls block, for no longer than a minute.
final class RawClient: Sendable {
    private let descriptor: Int32

    init(_ node: StreamNode) throws { descriptor = try TCPClient.connect(UInt16(node.server.port)) }

    /// Sends a request for a URL of the server and reads the answer's head.
    init(_ node: StreamNode, _ url: String, _ headers: [String], method: String = "POST") throws {
        descriptor = try TCPClient.connect(UInt16(node.server.port))
        send("\(method) \(URL(string: url)?.path ?? url) HTTP/1.1\r\nHost: x\r\n" + headers.map { $0 + "\r\n" }.joined() + "\r\n")
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) { TCPClient.sendAll(descriptor, bytes) }

    func send(_ text: String) { send(Array(text.utf8)) }

    func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Ends as a machine does that loses its network's other end: by a reset.
    func vanish() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    /// The status line and headers.
    func head() -> String {
        var bytes: [UInt8] = []
        while !bytes.suffix(4).elementsEqual("\r\n\r\n".utf8) {
            var byte: UInt8 = 0
            guard recv(descriptor, &byte, 1, 0) == 1 else { break }
            bytes.append(byte)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// All until the server closes; nil where it does not within a minute.
    func rest() -> [UInt8]? {
        var (bytes, part) = ([UInt8](), [UInt8](repeating: 0, count: 65536))
        while true {
            let count = recv(descriptor, &part, part.count, 0)
            if count == 0 || (count < 0 && errno == ECONNRESET) { return bytes }
            guard count > 0 else { return nil }
            bytes += part[..<count]
        }
    }

    func read(_ count: Int) -> [UInt8] {
        var (bytes, part) = ([UInt8](), [UInt8](repeating: 0, count: count))
        while bytes.count < count {
            let got = recv(descriptor, &part, count - bytes.count, 0)
            guard got > 0 else { break }
            bytes += part[..<got]
        }
        return bytes
    }

    static let spdy = ["Connection: Upgrade", "Upgrade: SPDY/3.1"]
    static let command = spdy + ["X-Stream-Protocol-Version: v4.channel.k8s.io"]
    static let portForward = spdy + ["X-Stream-Protocol-Version: portforward.k8s.io"]
    static func webSocket(_ version: String) -> [String] {
        [
            "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: \(version)",
        ]
    }
}
