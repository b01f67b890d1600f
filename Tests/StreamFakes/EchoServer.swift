import Errors
import Foundation
import Glibc
import Support

/// A TCP server on the loopback that answers what it reads, changed, until the client ends its direction.
package final class EchoServer: Sendable {
    package let port: UInt16
    private let listener: Int32

    /// - Parameters:
    ///   - afterEnd: what is sent when the client has ended its direction.
    ///   - dollarEnds: a `$` at the end of what was read ends the connection as well.
    package init(afterEnd: [UInt8] = [], dollarEnds: Bool = false, _ change: @escaping @Sendable ([UInt8]) -> [UInt8] = { $0 }) throws {
        (listener, port) = try TCPClient.listen()
        let listener = listener
        Thread.detachNewThread {
            while true {
                let client = Glibc.accept(listener, nil, nil)
                guard client >= 0 else { return }
                Thread.detachNewThread {
                    TCPClient.copy(client, afterEnd, dollarEnds, change)
                    close(client)
                }
            }
        }
    }

    package func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }
}

extension TCPClient {
    fileprivate static func copy(_ client: Int32, _ afterEnd: [UInt8], _ dollarEnds: Bool, _ change: ([UInt8]) -> [UInt8]) {
        var part = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(client, &part, part.count, 0)
            guard count > 0 else { break }
            guard sendAll(client, change(Array(part[..<count]))) else { return }
            if dollarEnds, part[count - 1] == UInt8(ascii: "$") { return }
        }
        _ = sendAll(client, afterEnd)
    }
}
