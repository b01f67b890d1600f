import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Runtime
import Synchronization

/// TCP sockets in pods' network namespaces.
///
/// This process may enter none. A copy of it, made before its first thread, is left that alone (``Confinement/applyToSockets()``): it takes
/// the path of a namespace and answers with a socket that is bound there. It ends with this process.
final class NamespaceSockets: Sendable {
    /// Connections that are being made; each blocks a thread.
    private static let pool = BlockingPool("connections to pods", threads: 64)
    static let patience: Int32 = 10_000

    private let control: Int32
    /// One request at a time.
    private let turn = Mutex<Void>(())

    /// - Precondition: no thread has been started.
    static func start() throws -> NamespaceSockets {
        var pair: (Int32, Int32) = (-1, -1)
        let made = withUnsafeMutableBytes(of: &pair) { clinux_socket_pair($0.baseAddress?.assumingMemoryBound(to: Int32.self)) }
        guard made == 0 else { throw SwiftletError.system("make a pair of sockets") }
        let child = clinux_fork_alone()
        guard child >= 0 else {
            for descriptor in [pair.0, pair.1] { close(descriptor) }
            throw SwiftletError.system("fork")
        }
        guard child == 0 else {
            close(pair.1)
            return NamespaceSockets(pair.0)
        }
        guard clinux_keep_descriptor(pair.1) == 0 else { _exit(1) }
        clinux_name_thread("streamd-sockets")
        clinux_clear_arguments()
        signal(SIGPIPE, SIG_IGN)
        do { try Confinement.applyToSockets() } catch { _exit(1) }
        clinux_serve_sockets(3)
        _exit(0)
    }

    private init(_ control: Int32) { self.control = control }

    deinit { close(control) }

    /// Connects from within the namespace.
    ///
    /// - Returns: a connected socket; nil where the namespace cannot connect to its guest.
    /// - Throws: `.unavailable` when nobody listens, or answers.
    func connect(to address: IPAddress, _ port: UInt16, in namespace: String) async throws -> Int32? {
        try await Self.pool.run("connect to port \(port)", discard: { if let socket = $0 { close(socket) } }) { [self] _ in
            guard let socket = open(address, in: namespace) else { return nil }
            do {
                try Self.connect(socket, to: address, port)
                return socket
            } catch {
                close(socket)
                throw error
            }
        }
    }

    private func open(_ address: IPAddress, in namespace: String) -> Int32? {
        var request = clinux_socket_request()
        let source = address.isIPv6 ? PortEndpoint.sourceIPv6 : PortEndpoint.sourceIPv4
        guard let source, namespace.utf8.count < MemoryLayout.size(ofValue: request.namespace_path) else { return nil }
        request.family = address.isIPv6 ? AF_INET6 : AF_INET
        withUnsafeMutableBytes(of: &request.source) { $0.copyBytes(from: source.address.bytes) }
        withUnsafeMutableBytes(of: &request.namespace_path) { $0.copyBytes(from: Array(namespace.utf8)) }
        let socket = turn.withLock { _ in clinux_request_socket(control, &request) }
        return socket >= 0 ? socket : nil
    }

    private static func connect(_ socket: Int32, to address: IPAddress, _ port: UInt16) throws {
        let step = "connect to port \(port) of the pod at \(address)"
        guard clinux_connect_tcp(socket, address.isIPv6 ? AF_INET6 : AF_INET, address.bytes, port) == 0 else {
            throw SwiftletError(.unavailable, step, cause: SwiftletError.system(step))
        }
        var waiting = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
        guard poll(&waiting, 1, patience) > 0 else { throw SwiftletError(.unavailable, "\(step): no answer") }
        let number = clinux_socket_error(socket)
        guard number == 0 else { throw SwiftletError(.unavailable, step, cause: SystemError(number)) }
    }
}
