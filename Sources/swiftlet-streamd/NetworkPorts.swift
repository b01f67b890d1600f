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
        try Self.check(namespace)
        try counts.withLock { counts in
            guard counts[namespace, default: 0] < limit else {
                throw SwiftletError(.resourceExhausted, "the pod has \(limit) forwarded connections already")
            }
            counts[namespace, default: 0] += 1
        }
        let connection = try await NetworkPort.connect(to: address, port) { self.leave(namespace) }
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
