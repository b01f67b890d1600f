import Errors
import StreamClient

/// The local ports of a port-forward, while it runs.
struct LocalPorts: Sendable {
    private(set) var listeners: [(listener: PortListener, remote: UInt16)] = []

    /// Listens on all ports at all addresses; of an address' alternatives one is enough.
    ///
    /// - Parameter passedOver: told of each alternative that cannot be listened on.
    /// - Throws: `.unavailable`, when a port has none; what was begun is closed.
    init(_ ports: [ForwardedPort], at addresses: [ListenAddress], passedOver: (SwiftletError) -> Void) async throws {
        do {
            for port in ports {
                // One that is free is the same at all addresses.
                var local = port.local
                for address in addresses {
                    local = try await listen(address, local, port.remote, passedOver)
                }
            }
        } catch {
            await close()
            throw error
        }
    }

    private mutating func listen(
        _ address: ListenAddress, _ local: UInt16, _ remote: UInt16, _ passedOver: (SwiftletError) -> Void
    ) async throws -> UInt16 {
        var (port, failures, isOpen) = (local, [SwiftletError](), false)
        for alternative in address.alternatives {
            do {
                let listener = try await PortListener(alternative, port: port)
                listeners.append((listener, remote))
                (port, isOpen) = (listener.port, true)
            } catch let error as SwiftletError {
                failures.append(error)
            }
        }
        guard isOpen else {
            throw SwiftletError(
                .unavailable, "cannot listen on local port \(local) for \(remote): \(failures.map(\.description).joined(separator: "; "))")
        }
        failures.forEach(passedOver)
        return port
    }

    func close() async {
        for (listener, _) in listeners { await listener.close() }
    }
}
