import Errors
import Foundation
import Glibc

/// One HTTP/1.1 exchange as bytes, for what a client library would not send.
public struct HTTPExchange: Sendable {
    public var status: Int
    /// Lower-case names.
    public var headers: [String: String]
    public var body: String

    /// Sends the request and reads until the server closes.
    ///
    /// - Parameter address: `unix:///PATH` or `tcp://127.0.0.1:PORT`.
    public init(_ request: String, to address: String) throws {
        let descriptor = try Self.connect(address)
        defer { close(descriptor) }
        var time = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        let bytes = Array(request.utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw SwiftletError(.unavailable, "\(address): errno \(errno)")
        }
        var (answer, part) = ([UInt8](), [UInt8](repeating: 0, count: 65536))
        while true {
            let count = recv(descriptor, &part, part.count, 0)
            guard count > 0 else { break }
            answer += part[..<count]
        }
        let text = String(decoding: answer, as: UTF8.self)
        guard let end = text.range(of: "\r\n\r\n"), let match = text.prefixMatch(of: /HTTP\/1\.[01] (\d{3})/), let status = Int(match.1)
        else { throw SwiftletError(.dataLoss, "\(address) answered \(text.prefix(200))") }
        self.status = status
        let lines = text[..<end.lowerBound].components(separatedBy: "\r\n").dropFirst()
        headers = Dictionary(
            lines.compactMap { line in
                line.firstIndex(of: ":").map {
                    (line[..<$0].lowercased(), line[line.index(after: $0)...].trimmingCharacters(in: .whitespaces))
                }
            }
        ) { first, _ in first }
        body = String(text[end.upperBound...])
    }

    private static func connect(_ address: String) throws -> Int32 {
        let isUnix = address.hasPrefix("unix://")
        let descriptor = socket(isUnix ? AF_UNIX : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var result: Int32
        if isUnix {
            var name = sockaddr_un()
            name.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: address.dropFirst(7).utf8) }
            result = withUnsafePointer(to: &name) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        } else {
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = UInt16(address.split(separator: ":").last.flatMap { UInt16($0) } ?? 0).bigEndian
            name.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            result = withUnsafePointer(to: &name) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        guard result == 0 else {
            result = errno
            close(descriptor)
            throw SwiftletError(.unavailable, "\(address): errno \(result)")
        }
        return descriptor
    }
}
