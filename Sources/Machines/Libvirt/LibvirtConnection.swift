import Concurrency
import Errors
import Logging

/// A connection that opens itself again after libvirtd went away.
actor LibvirtConnection {
    private enum State {
        case idle
        case open(ConnectionHandle)
        case closed
    }

    private let uri: String
    private let calls: BlockingPool
    private let timeout: Duration
    private let hub: MachineEventHub
    private let logger: Logger
    private var state = State.idle
    private let openings = SingleFlight<NoKey, ConnectionHandle>(whenAbandoned: .finish)
    private var recovery: Task<Void, Never>?

    init(uri: String, calls: BlockingPool, timeout: Duration, hub: MachineEventHub, logger: Logger) {
        self.uri = uri
        self.calls = calls
        self.timeout = timeout
        self.hub = hub
        self.logger = logger
    }

    /// The open connection; opens it where there is none.
    ///
    /// - Throws: `unavailable` with libvirt's reason.
    func handle() async throws -> ConnectionHandle {
        switch state {
        case .open(let handle): return handle
        case .closed: throw SwiftletError(.unavailable, "the connection to libvirt is closed")
        case .idle: return try await openings.run { [self] in try await openNow() }
        }
    }

    private func openNow() async throws -> ConnectionHandle {
        // The attempt before this one may have ended since the caller looked.
        if case .open(let handle) = state { return handle }
        let handle = try await open()
        guard case .idle = state else {
            dispose(handle)
            throw SwiftletError(.unavailable, "the connection to libvirt is closed")
        }
        state = .open(handle)
        return handle
    }

    /// Notes that this connection broke, and keeps trying to open another.
    func lost(_ handle: ConnectionHandle) {
        guard case .open(let current) = state, current === handle else { return }
        state = .idle
        logger.warning("lost the connection to libvirt", metadata: ["uri": "\(uri)"])
        hub.send(.connectionLost)
        dispose(handle)
        recovery = Task { await reopen() }
    }

    func close() {
        recovery?.cancel()
        if case .open(let handle) = state { dispose(handle) }
        state = .closed
    }

    /// Tries at growing intervals of 0.05 to 2 seconds until it works or the connection is closed.
    private func reopen() async {
        var pause = Duration.milliseconds(50)
        while !Task.isCancelled {
            do {
                _ = try await handle()
                logger.info("connected to libvirt again", metadata: ["uri": "\(uri)"])
                hub.send(.reconnected)
                return
            } catch {
                logger.debug("libvirt is still away", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, .seconds(2))
        }
    }

    private func open() async throws -> ConnectionHandle {
        let (uri, hub) = (uri, hub)
        let onClose: @Sendable (ConnectionHandle) -> Void = { [weak self] handle in
            Task { [weak self] in await self?.lost(handle) }
        }
        return try await calls.run("connect to libvirt at \(uri)", timeout: timeout, discard: { $0.close() }) { _ in
            try ConnectionHandle(uri, hub: hub, onClose: onClose)
        }
    }

    /// Closing a connection to a hung daemon may hang as well: it happens on a call's thread.
    private func dispose(_ handle: ConnectionHandle) {
        let calls = calls
        let timeout = timeout
        Task { try? await calls.run("close the connection to libvirt", timeout: timeout) { _ in handle.close() } }
    }
}
