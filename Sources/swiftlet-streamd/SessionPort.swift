import Errors
import Foundation
import Logging
import StreamControl
import StreamServer
import Synchronization

/// Where clients are served, as swiftletd wants it, from the moment on at which the address is free: logs do not wait for it.
final class SessionPort: Sendable {
    private struct State {
        /// Nil before swiftletd has said what it wants.
        var wanted: SessionConfiguration?
        var server: StreamServer?
        /// Why nobody is served as wanted.
        var failure: (any Error)?
        /// Of other addresses, whose sessions go on.
        var former: [StreamServer] = []
    }

    private let backend: any StreamBackend
    private let logger: Logger
    private let places = SessionPlaces()
    private let state = Mutex(State())

    init(backend: any StreamBackend, logger: Logger) { (self.backend, self.logger) = (backend, logger) }

    /// Serves as is wanted from now on. Sessions that are there go on.
    func configure(_ wanted: SessionConfiguration) async {
        places.limits = wanted.limits
        let former = state.withLock { state -> StreamServer? in
            if let known = state.wanted, known.isServedAs(wanted) { return nil }
            let former = state.server
            if let former { state.former.append(former) }
            (state.wanted, state.server, state.failure) = (wanted, nil, nil)
            return former
        }
        await former?.close()
        await start()
    }

    /// Tries to serve.
    private func start() async {
        guard let wanted = missing else { return }
        do {
            let server = try await StreamServer.start(wanted.server, backend, places: places, logger: logger)
            let isWanted = state.withLock { state in
                guard state.wanted == wanted, state.server == nil else { return false }
                (state.server, state.failure) = (server, nil)
                return true
            }
            guard isWanted else { return await server.stop() }
            logger.info("serving clients", metadata: ["url": "\(url)"])
        } catch {
            let isNew = state.withLock { state in
                // Another attempt may have succeeded meanwhile, and be what holds the address.
                guard state.wanted == wanted, state.server == nil else { return false }
                defer { state.failure = error }
                return state.failure == nil
            }
            if isNew { logger.error("clients are not served", metadata: ["error": "\(error)"]) }
        }
    }

    /// What is wanted and not served.
    private var missing: SessionConfiguration? {
        state.withLock { state in
            guard let wanted = state.wanted, !wanted.address.isEmpty, state.server == nil else { return nil }
            return wanted
        }
    }

    /// Tries again until it serves, and serves until it is cancelled, which ends all sessions.
    func run() async {
        while !Task.isCancelled {
            await start()
            state.withLock { state in state.former.removeAll(where: \.isEmpty) }
            try? await Task.sleep(for: .seconds(1))
        }
        let servers = state.withLock { state in
            defer { (state.wanted, state.server, state.former) = (nil, nil, []) }
            return state.former + (state.server.map { [$0] } ?? [])
        }
        for server in servers { await server.stop() }
    }

    /// - Throws: `.unavailable` with the reason while no client can be served; `.unimplemented` where none is to be.
    func server() throws -> StreamServer {
        try state.withLock { state in
            if let server = state.server { return server }
            guard let wanted = state.wanted else { throw SwiftletError(.unavailable, "sessions are not served yet") }
            guard !wanted.address.isEmpty else {
                throw SwiftletError(.unimplemented, "sessions are not served: no address is configured")
            }
            throw SwiftletError(.unavailable, "sessions are not served", cause: state.failure)
        }
    }

    /// Servers of other addresses that have sessions still.
    var formerServers: Int { state.withLock { $0.former.count } }

    /// As it was configured; empty: nowhere.
    var address: String { state.withLock { $0.wanted?.address ?? "" } }

    /// What URLs begin with; empty while no client is served.
    var url: String { state.withLock { $0.server?.url ?? "" } }

    /// Why nobody is served; empty where somebody is, or nobody is to be.
    var unserved: String {
        state.withLock { state in state.failure.map { "\($0)" } ?? "" }
    }
}
