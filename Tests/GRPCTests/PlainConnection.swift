import Glibc
import Testing

/// A unix socket without any gRPC on it.
final class PlainConnection: Sendable {
    private let descriptor: Int32

    /// Connects to `path`.
    init(path: String) throws {
        descriptor = try Self.socket(path) { connect($0, $1, $2) }
    }

    deinit {
        close(descriptor)
    }

    func send(_ bytes: [UInt8]) throws {
        try #require(write(descriptor, bytes, bytes.count) == bytes.count)
    }

    /// Leaves behind what a killed server leaves: a socket file nobody listens on.
    static func leaveStaleSocket(path: String) throws {
        close(try socket(path) { bind($0, $1, $2) })
    }

    private static func socket(
        _ path: String, _ attach: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) throws -> Int32 {
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { attach(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        try #require(result == 0)
        return descriptor
    }
}
