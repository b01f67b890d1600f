import Errors
import Foundation
import Glibc
import Support

/// A server on the loopback that reads one request's head, and then does what it is told.
final class ScriptedServer: Sendable {
    let url: String
    private let listener: Int32

    /// - Parameter script: runs on a thread of its own for each connection, which is closed after it.
    init(_ script: @escaping @Sendable (_ client: Int32, _ head: String) -> Void) throws {
        let (listener, port) = try TCPClient.listen()
        self.listener = listener
        url = "http://127.0.0.1:\(port)/exec/token"
        Thread.detachNewThread {
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { return }
                Thread.detachNewThread {
                    script(client, Self.head(client))
                    close(client)
                }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    private static func head(_ client: Int32) -> String {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while !bytes.suffix(4).elementsEqual("\r\n\r\n".utf8), recv(client, &byte, 1, 0) == 1 { bytes.append(byte) }
        return String(decoding: bytes, as: UTF8.self)
    }

    static let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Said: this\r\n\r\n"
}
