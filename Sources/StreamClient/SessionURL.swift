import Errors
import FoundationEssentials
import NIOCore

/// What a URL of a session says: `https://192.0.2.1:10351/exec/TOKEN`.
struct SessionURL: Equatable, Sendable {
    let host: String
    let port: Int
    let isTLS: Bool
    /// Path and query, as the request names them.
    let target: String
    /// Host and port as the header `Host` has them.
    let authority: String

    /// An address has no name that TLS could ask for.
    var isIPAddress: Bool { (try? SocketAddress(ipAddress: host, port: port)) != nil }

    /// - Throws: `.invalidArgument` for anything but a URL of HTTP with a host.
    init(_ text: String) throws {
        guard let parts = URLComponents(string: text), let scheme = parts.scheme?.lowercased(), ["http", "https"].contains(scheme),
            let host = parts.host, !host.isEmpty
        else { throw SwiftletError(.invalidArgument, "\(quoted(text)) is no URL of a session: http://HOST:PORT/PATH") }
        isTLS = scheme == "https"
        port = parts.port ?? (isTLS ? 443 : 80)
        // An IPv6 address is in brackets in a URL, and nowhere else.
        self.host = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        authority = (self.host.contains(":") ? "[\(self.host)]" : self.host) + ":\(port)"
        target = (parts.percentEncodedPath.isEmpty ? "/" : parts.percentEncodedPath) + (parts.percentEncodedQuery.map { "?\($0)" } ?? "")
    }
}
