import Errors
import Foundation
import Glibc
import Synchronization

/// A receiver of OTLP over HTTP/1.1 on loopback, which answers what it is told.
public final class HTTPCollector: Sendable {
    public struct Request: Sendable {
        public var line: String
        /// Lower-case names.
        public var headers: [String: String]
        public var body: [UInt8]
        /// When all of it had come.
        public var arrival: ContinuousClock.Instant
    }

    public enum Answer: Sendable {
        case status(Int, headers: [String: String] = [:], body: String = "{}")
        case hangs
        /// The body that it announces does not come.
        case hangsBehindHead(Int)
        case closes
    }

    public let port: UInt16
    private let descriptor: Int32
    private let answer: @Sendable (Int) -> Answer
    /// A descriptor is closed, and shut down, while it is held: another test may have its number afterwards.
    private let state = Mutex((isListening: true, connections: [Int32](), requests: [Request]()))

    /// - Parameters:
    ///   - port: 0: the kernel chooses.
    ///   - answer: to the request of this number, from 0.
    public init(port: UInt16 = 0, _ answer: @escaping @Sendable (Int) -> Answer = { _ in .status(200) }) throws {
        self.answer = answer
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var (name, yes) = (sockaddr_in(), Int32(1))
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        name.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                guard bind(descriptor, name, size) == 0, listen(descriptor, 8) == 0 else { return Int32(-1) }
                return getsockname(descriptor, name, &size)
            }
        }
        guard result == 0 else { throw SwiftletError(.unavailable, "listen on port \(port): errno \(errno)") }
        (self.descriptor, self.port) = (descriptor, UInt16(bigEndian: name.sin_port))
        Thread.detachNewThread { self.accept() }
    }

    public var requests: [Request] { state.withLock { $0.requests } }

    public func stop() {
        state.withLock { state in
            // The thread that accepts sees it.
            if state.isListening { shutdown(descriptor, Int32(SHUT_RDWR)) }
            for connection in state.connections { shutdown(connection, Int32(SHUT_RDWR)) }
        }
    }

    private func accept() {
        while true {
            let connection = Glibc.accept(descriptor, nil, nil)
            guard connection >= 0 else { break }
            state.withLock { $0.connections.append(connection) }
            Thread.detachNewThread { self.serve(connection) }
        }
        state.withLock { state in
            state.isListening = false
            close(descriptor)
        }
    }

    private func serve(_ connection: Int32) {
        defer {
            state.withLock { state in
                state.connections.removeAll { $0 == connection }
                close(connection)
            }
        }
        var bytes: [UInt8] = []
        while let request = Self.request(connection, &bytes) {
            let number = state.withLock { state in
                state.requests.append(request)
                return state.requests.count - 1
            }
            switch answer(number) {
            case .status(let code, let headers, let body):
                let fields = headers.map { "\($0.key): \($0.value)\r\n" }.joined()
                let text = Array("HTTP/1.1 \(code) Status\r\n\(fields)content-length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
                guard send(connection, text, text.count, Int32(MSG_NOSIGNAL)) == text.count else { return }
            case .hangs: Self.read(connection, &bytes)
            case .hangsBehindHead(let code):
                let head = Array("HTTP/1.1 \(code) Status\r\ncontent-length: 100\r\n\r\n{".utf8)
                guard send(connection, head, head.count, Int32(MSG_NOSIGNAL)) == head.count else { return }
                Self.read(connection, &bytes)
            case .closes: return
            }
        }
    }

    /// Nil at the connection's end.
    private static func request(_ connection: Int32, _ bytes: inout [UInt8]) -> Request? {
        while true {
            let data = Data(bytes)
            if let end = data.range(of: Data("\r\n\r\n".utf8)) {
                let head = String(decoding: data[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
                let fields = head.dropFirst().compactMap { line in
                    line.firstIndex(of: ":").map {
                        (line[..<$0].lowercased(), line[line.index(after: $0)...].trimmingCharacters(in: .whitespaces))
                    }
                }
                let headers = Dictionary(fields) { first, _ in first }
                let length = headers["content-length"].flatMap { Int($0) } ?? 0
                if data.count - end.upperBound >= length {
                    bytes = Array(data[(end.upperBound + length)...])
                    return Request(
                        line: head[0], headers: headers, body: Array(data[end.upperBound..<end.upperBound + length]), arrival: .now)
                }
            }
            guard read(connection, &bytes) else { return nil }
        }
    }

    @discardableResult
    private static func read(_ connection: Int32, _ bytes: inout [UInt8]) -> Bool {
        var part = [UInt8](repeating: 0, count: 65536)
        let count = recv(connection, &part, part.count, 0)
        guard count > 0 else { return false }
        bytes += part[..<count]
        return true
    }
}
