import Errors
import NIOCore

/// Where metrics are served: only to this node.
public enum MetricsAddress: Sendable, Equatable {
    /// A unix socket, for the daemon's user and group.
    case unix(path: String)
    /// A loopback address. Port 0: the kernel chooses.
    case tcp(host: String, port: Int)

    /// - Throws: `.invalidArgument` for anything but a number in 127.0.0.0/8 or ::1: the endpoint asks nobody who they are.
    public static func loopback(host: String, port: Int) throws -> MetricsAddress {
        guard let address = try? SocketAddress(ipAddress: host, port: port), isLoopback(address) else {
            throw SwiftletError(
                .invalidArgument,
                "\(quoted(host)) is not a loopback address, and metrics are served without a password; use 127.0.0.1, [::1] or a unix socket"
            )
        }
        return .tcp(host: host, port: port)
    }

    private static func isLoopback(_ address: SocketAddress) -> Bool {
        switch address {
        case .v4(let v4): UInt32(bigEndian: v4.address.sin_addr.s_addr) >> 24 == 127
        case .v6(let v6): withUnsafeBytes(of: v6.address.sin6_addr) { $0.dropLast().allSatisfy { $0 == 0 } && $0.last == 1 }
        case .unixDomainSocket: false
        }
    }
}

extension MetricsAddress: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unix(let path): "unix://\(path)"
        case .tcp(let host, let port): host.contains(":") ? "tcp://[\(host)]:\(port)" : "tcp://\(host):\(port)"
        }
    }
}
