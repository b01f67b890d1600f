import Errors
import Linux
import Synchronization

/// The connections to pods that are reached by the network, counted for each.
final class NetworkPorts: Sendable {
    private let limit: Int
    /// By the path of the pod's network namespace.
    private let counts = Mutex<[String: Int]>([:])

    /// - Parameter limit: connections of a pod; as many as an agent makes at a time.
    init(limit: Int = 1024) { self.limit = limit }

    /// - Throws: `.notFound` when the pod's network is gone, since its address may be another pod's by now; `.resourceExhausted`;
    ///   `.unavailable` when nobody listens.
    func connect(to address: String, _ port: UInt16, in namespace: String) async throws -> NetworkPort {
        try await connect(in: namespace) { try await NetworkPort.connect(to: address, port, onEnd: $0) }
    }

    /// As ``connect(to:_:in:)``, to what listens on the namespace's loopback, or else on the address.
    ///
    /// - Parameter sockets: the unix socket at which swiftletd hands out sockets of the namespace.
    func connect(toLoopbackOr address: String, _ port: UInt16, in namespace: String, by sockets: String) async throws -> NetworkPort {
        try await connect(in: namespace) { onEnd in
            try await NetworkPort.adopt(onEnd: onEnd) { try await LoopbackSocket.connect(port, or: address, by: sockets) }
        }
    }

    /// To what listens on the node's loopback, for pods in its network.
    func connectToNode(_ port: UInt16) async throws -> NetworkPort {
        let node = "/proc/self/ns/net"
        return try await connect(in: node) { onEnd in
            try await NetworkPort.adopt(onEnd: onEnd) { try await LoopbackSocket.connect(port, or: nil, by: nil) }
        }
    }

    private func connect(
        in namespace: String, _ make: (_ onEnd: @escaping @Sendable () -> Void) async throws -> NetworkPort
    ) async throws -> NetworkPort {
        try Self.check(namespace)
        try counts.withLock { counts in
            guard counts[namespace, default: 0] < limit else {
                throw SwiftletError(.resourceExhausted, "the pod has \(limit) forwarded connections already")
            }
            counts[namespace, default: 0] += 1
        }
        let connection = try await make { self.leave(namespace) }
        do { try Self.check(namespace) } catch {
            await connection.end()
            throw error
        }
        return connection
    }

    private func leave(_ namespace: String) {
        counts.withLock { counts in
            guard let count = counts[namespace] else { return }
            counts[namespace] = count > 1 ? count - 1 : nil
        }
    }

    private static func check(_ namespace: String) throws {
        guard NetworkNamespace.isBound(at: namespace) else { throw SwiftletError(.notFound, "the pod's network is gone") }
    }
}
