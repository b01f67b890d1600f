import Errors
import Logging
import StreamControl
import StreamServer
import Synchronization

/// Where clients are served, from the moment on at which the address is free: logs do not wait for it.
final class SessionPort: Sendable {
    private enum State {
        case none
        case waiting(any Error)
        case serving(StreamServer)
    }

    private let address: SessionAddress?
    private let backend: any StreamBackend
    private let logger: Logger
    private let state = Mutex(State.none)

    /// - Parameter address: nil: no client is served.
    init(address: SessionAddress?, backend: any StreamBackend, logger: Logger) {
        (self.address, self.backend, self.logger) = (address, backend, logger)
    }

    /// Tries to serve.
    func start() async {
        guard let address, !isServing else { return }
        do {
            let configuration = ServerConfiguration(host: address.host, port: address.port)
            let server = try await StreamServer.start(configuration, backend, logger: logger)
            state.withLock { $0 = .serving(server) }
            logger.info("serving clients", metadata: ["url": "\(url)"])
        } catch {
            let before = state.withLock { state in
                defer { state = .waiting(error) }
                return state
            }
            if case .waiting = before { return }
            logger.error("clients are not served", metadata: ["error": "\(error)"])
        }
    }

    /// Tries again until it serves, and serves until it is cancelled, which ends all sessions.
    func run() async {
        while !Task.isCancelled {
            await start()
            try? await Task.sleep(for: isServing ? .seconds(3600) : .seconds(1))
        }
        if case .serving(let server) = state.withLock({ $0 }) { await server.stop() }
    }

    private var isServing: Bool {
        guard address != nil else { return true }
        if case .serving = state.withLock({ $0 }) { return true }
        return false
    }

    /// - Throws: `.unavailable` with the reason while no client can be served; `.unimplemented` where none is to be.
    func server() throws -> StreamServer {
        switch state.withLock({ $0 }) {
        case .serving(let server): return server
        case .waiting(let error): throw SwiftletError(.unavailable, "sessions are not served", cause: error)
        case .none where address == nil: throw SwiftletError(.unimplemented, "sessions are not served: swiftlet-streamd has no address")
        case .none: throw SwiftletError(.unavailable, "sessions are not served yet")
        }
    }

    /// What URLs begin with; empty while no client is served.
    var url: String {
        guard let address, case .serving(let server) = state.withLock({ $0 }) else { return "" }
        return SessionAddress(host: address.host, port: server.port).url
    }
}
