import Errors
import Linux
import Synchronization

/// The connections to pods that are reached by the network, counted for each.
final class NetworkPorts: Sendable {
    private let limit: Int
    /// Nil: all connections are made by the node's own routes.
    private let sockets: NamespaceSockets?
    /// By the path of the pod's network namespace.
    private let counts = Mutex<[String: Int]>([:])

    /// - Parameter limit: connections of a pod; as many as an agent makes at a time.
    init(limit: Int = 1024, sockets: NamespaceSockets? = nil) { (self.limit, self.sockets) = (limit, sockets) }

    /// - Throws: `.notFound` when the pod's network is gone, since its address may be another pod's by now; `.resourceExhausted`;
    ///   `.unavailable` when nobody listens.
    func connect(to address: String, _ port: UInt16, in namespace: String) async throws -> NetworkPort {
        try Self.check(namespace)
        try counts.withLock { counts in
            guard counts[namespace, default: 0] < limit else {
                throw SwiftletError(.resourceExhausted, "the pod has \(limit) forwarded connections already")
            }
            counts[namespace, default: 0] += 1
        }
        let connected: Int32?
        do {
            connected = try await fromWithin(namespace, to: address, port)
        } catch {
            leave(namespace)
            throw error
        }
        let connection = try await NetworkPort.connect(to: address, port, by: connected) { self.leave(namespace) }
        do { try Self.check(namespace) } catch {
            await connection.end()
            throw error
        }
        return connection
    }

    /// - Returns: nil where the pod's namespace does not reach its machine.
    private func fromWithin(_ namespace: String, to address: String, _ port: UInt16) async throws -> Int32? {
        guard let sockets, let address = IPAddress(address) else { return nil }
        return try await sockets.connect(to: address, port, in: namespace)
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
