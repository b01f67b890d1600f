import CLinux
import Concurrency
import Errors
import Glibc
import Linux

/// TCP connections to what listens on a loopback, or on an address besides.
///
/// A socket belongs to the network namespace that it was made in, whoever connects it: swiftletd, which may enter a pod's, hands them out.
enum LoopbackSocket {
    /// A unix socket at which swiftletd hands out sockets; nil: they are this process's own.
    typealias Source = String?

    private static let patience = Duration.seconds(10)

    /// Connects to 127.0.0.1, else to ::1, else to the address.
    ///
    /// - Returns: a descriptor, which is the caller's.
    /// - Throws: `.unavailable` when nobody listens.
    static func connect(_ port: UInt16, or address: String?, by source: Source) async throws -> Int32 {
        try await OwnThread.run {
            var failures: [String] = []
            for address in ["127.0.0.1", "::1"] + (address.map { [$0] } ?? []) {
                do {
                    return try connect(to: address, port, by: source)
                } catch let error as SwiftletError where error.systemErrno != nil {
                    failures.append("\(address): \(error)")
                }
            }
            throw SwiftletError(.unavailable, "connect to port \(port): \(failures.joined(separator: "; "))")
        }
    }

    /// Blocks.
    private static func connect(to address: String, _ port: UInt16, by source: Source) throws -> Int32 {
        let family = address.contains(":") ? AF_INET6 : AF_INET
        let descriptor = try source.map { try receive(family, from: $0) } ?? socket(family, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw SwiftletError.system("make a socket") }
        do {
            guard fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) == 0 else { throw SwiftletError.system("fcntl") }
            try connect(descriptor, family, address, port)
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    private static func connect(_ descriptor: Int32, _ family: Int32, _ address: String, _ port: UInt16) throws {
        let result: Int32
        if family == AF_INET {
            var to = sockaddr_in()
            (to.sin_family, to.sin_port) = (sa_family_t(family), port.bigEndian)
            inet_pton(family, address, &to.sin_addr)
            result = withUnsafePointer(to: &to) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        } else {
            var to = sockaddr_in6()
            (to.sin6_family, to.sin6_port) = (sa_family_t(family), port.bigEndian)
            inet_pton(family, address, &to.sin6_addr)
            result = withUnsafePointer(to: &to) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
        guard result != 0 else { return }
        guard errno == EINPROGRESS else { throw SwiftletError.system("connect") }
        guard isReady(descriptor, Int16(POLLOUT)) else { throw SwiftletError.system("connect", errno: ETIMEDOUT) }
        var (failure, length): (Int32, socklen_t) = (0, socklen_t(MemoryLayout<Int32>.size))
        guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &length) == 0, failure == 0 else {
            throw SwiftletError.system("connect", errno: failure)
        }
    }

    private static func isReady(_ descriptor: Int32, _ events: Int16) -> Bool {
        let deadline = ContinuousClock.now + patience
        repeat {
            var waiting = pollfd(fd: descriptor, events: events, revents: 0)
            if poll(&waiting, 1, 1000) > 0 { return true }
        } while ContinuousClock.now < deadline
        return false
    }

    /// A socket of the namespace that swiftletd hands out at this path.
    private static func receive(_ family: Int32, from path: String) throws -> Int32 {
        let connection = clinux_unix_socket()
        guard connection >= 0 else { throw SwiftletError.system("make a socket") }
        defer { close(connection) }
        guard clinux_unix_connect(connection, path) == 0 else {
            throw SwiftletError(
                .unavailable, "swiftletd, which opens the pod's network, is not there; try again", cause: SwiftletError.system("connect"))
        }
        guard isReady(connection, Int16(POLLIN)) else { throw SwiftletError(.unavailable, "swiftletd does not open the pod's network") }
        var (byte, received, descriptors): (UInt8, Int32, [Int32]) = (0, 0, [-1, -1])
        guard clinux_receive_with_fds(connection, &byte, 1, &descriptors, 2, &received) > 0 else {
            throw SwiftletError(.unavailable, "swiftletd cannot open the pod's network: it may be gone")
        }
        var found: Int32 = -1
        for descriptor in descriptors.prefix(Int(received)) {
            var (domain, length): (Int32, socklen_t) = (0, socklen_t(MemoryLayout<Int32>.size))
            if found < 0, getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0, domain == family {
                found = descriptor
            } else {
                close(descriptor)
            }
        }
        guard found >= 0 else { throw SwiftletError.system("make a socket", errno: EAFNOSUPPORT) }
        return found
    }
}
