import Errors

/// Where a server listens, or a client connects.
public enum Endpoint: Sendable, Hashable {
    /// A unix socket; `path` is absolute and at most 107 bytes (`sockaddr_un`, unix(7)).
    case unix(path: String)
    /// A TCP port. A server given port 0 gets one from the kernel.
    case tcp(host: String, port: Int)

    /// Longest socket path in bytes: `sun_path` without its terminating NUL.
    static let maximumPathBytes = 107

    /// Reads `unix:///run/x.sock`, `tcp://127.0.0.1:1234`, `tcp://[::1]:1234` or an absolute path.
    ///
    /// - Throws: `SwiftletError` `invalidArgument` with the text and what would be accepted.
    public init(parsing text: String) throws {
        if text.hasPrefix("/") {
            self = try .unix(path: Self.checked(path: text, in: text))
        } else if text.hasPrefix("unix://") {
            self = try .unix(path: Self.checked(path: String(text.dropFirst(7)), in: text))
        } else if text.hasPrefix("tcp://") {
            let rest = text.dropFirst(6)
            guard let colon = rest.lastIndex(of: ":"), let port = Int(rest[rest.index(after: colon)...]), (0...65535).contains(port)
            else { throw Self.malformed(text, "a port from 0 to 65535 is missing") }
            var host = rest[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = host.dropFirst().dropLast()
            } else if host.contains(":") {
                throw Self.malformed(text, "an IPv6 address goes in square brackets")
            }
            guard !host.isEmpty, !host.contains(where: { $0 == "/" || $0 == "\0" || $0 == " " }) else {
                throw Self.malformed(text, "the host is missing or malformed")
            }
            self = .tcp(host: String(host), port: port)
        } else {
            throw Self.malformed(text, "the scheme is unknown")
        }
    }

    private static func checked(path: String, in text: String) throws -> String {
        guard path.hasPrefix("/"), path.count > 1, !path.contains("\0") else { throw malformed(text, "the socket path is not absolute") }
        guard path.utf8.count <= maximumPathBytes else {
            throw malformed(text, "the socket path has \(path.utf8.count) bytes; unix sockets allow \(maximumPathBytes)")
        }
        return path
    }

    private static func malformed(_ text: String, _ reason: String) -> SwiftletError {
        SwiftletError(.invalidArgument, "endpoint \"\(text)\": \(reason); use unix:///path/to.sock or tcp://host:port")
    }

    /// The address as the core's server wants it: unix paths are percent-decoded by it.
    var listenAddress: String {
        switch self {
        case .unix(let path): "unix:\(Self.percentEncoded(path))"
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        }
    }

    /// The address as the core's client wants it: a URI, so unix paths are percent-encoded.
    var target: String {
        switch self {
        case .unix(let path): return "unix:\(Self.percentEncoded(path))"
        case .tcp(let host, let port):
            if host.contains(":") { return "ipv6:%5B\(Self.percentEncoded(host))%5D:\(port)" }
            let numeric = host.split(separator: ".", omittingEmptySubsequences: false)
            let isIPv4 = numeric.count == 4 && numeric.allSatisfy { UInt8($0) != nil }
            return isIPv4 ? "ipv4:\(host):\(port)" : "dns:///\(host):\(port)"
        }
    }

    private static func percentEncoded(_ text: String) -> String {
        var encoded = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"):
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let hex = String(byte, radix: 16, uppercase: true)
                encoded += byte < 16 ? "%0\(hex)" : "%\(hex)"
            }
        }
        return encoded
    }
}

extension Endpoint: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unix(let path): "unix://\(path)"
        case .tcp(let host, let port): host.contains(":") ? "tcp://[\(host)]:\(port)" : "tcp://\(host):\(port)"
        }
    }
}
