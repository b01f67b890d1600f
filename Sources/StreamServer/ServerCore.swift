import Errors
import Logging
import NIOCore
import StreamFrames
import Synchronization

/// What the connections of a server have in common.
final class ServerCore: Sendable {
    let configuration: ServerConfiguration
    let tokens: TokenStore
    let backend: any StreamBackend
    let logger: Logger
    private let connections = Mutex<[ObjectIdentifier: any Channel]>([:])

    init(_ configuration: ServerConfiguration, _ tokens: TokenStore, _ backend: any StreamBackend, _ logger: Logger) {
        (self.configuration, self.tokens, self.backend, self.logger) = (configuration, tokens, backend, logger)
    }

    /// - Returns: false when there are as many connections as may be.
    func enter(_ channel: any Channel) -> Bool {
        let key = ObjectIdentifier(channel)
        let isRoom = connections.withLock { connections in
            guard connections.count < configuration.maximumConnections else { return false }
            connections[key] = channel
            return true
        }
        guard isRoom else {
            logger.warning(
                "streaming client \(channel.remoteAddress?.description ?? "?"): \(configuration.maximumConnections) others are served")
            return false
        }
        channel.closeFuture.whenComplete { _ in self.connections.withLock { $0[key] = nil } }
        return true
    }

    var isEmpty: Bool { connections.withLock(\.isEmpty) }

    func closeAll() {
        for channel in connections.withLock({ Array($0.values) }) { channel.close(promise: nil) }
    }

    /// What serves an upgraded connection, and begins its session.
    func sessionHandlers(_ admission: Admission, _ channel: any Channel) throws -> [any ChannelHandler] {
        switch admission {
        case .spdy(let allowed, let version, _):
            hold(allowed.place, until: channel)
            let lingering = Lingering()
            return [spdyHandler(allowed.request, version, channel) { lingering.begin($0) }]
        case .webSocket(let allowed, let version, _):
            hold(allowed.place, until: channel)
            return try webSocketHandlers(allowed.request, version, channel)
        case .refused: return []
        }
    }

    /// A session is counted as long as its connection is there.
    private func hold(_ place: SessionPlace, until channel: any Channel) {
        channel.closeFuture.whenComplete { _ in withExtendedLifetime(place) {} }
    }

    func spdyHandler(
        _ request: StreamRequest, _ version: Admission.SPDYProtocol, _ channel: any Channel, close: @escaping (any Channel) -> Void
    ) -> SPDYHandler {
        let (streams, opened) = AsyncStream.makeStream(of: ByteStream.self)
        let handler = SPDYHandler(
            maximumStreams: configuration.maximumStreams, idleTimeout: configuration.idleTimeout, opened: opened,
            refusal: refusal(request, version), close: close)
        let bound = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        serve(request, channel, finish: { bound.value.finish() }, failure: { bound.value.failure }) { core in
            switch version {
            case .command(let version): try await core.session(request, version).run(streams)
            case .portForward: try await core.forwarding(request).run(streams)
            }
        }
        return handler
    }

    private func refusal(_ request: StreamRequest, _ version: Admission.SPDYProtocol) -> ([String: String]) -> String? {
        switch (request, version) {
        case (.exec(let request), .command(let version)): ExpectedStreams(request.streams, version).refusal
        case (.attach(let request), .command(let version)): ExpectedStreams(request.streams, version).refusal
        default: PortForwardSession.refusal
        }
    }

    func session(_ request: StreamRequest, _ version: CommandProtocol) throws -> CommandSession {
        let set: StreamSet
        switch request {
        case .exec(let request): set = request.streams
        case .attach(let request): set = request.streams
        case .portForward: throw SwiftletError(.internal, "a port-forward is no command")
        }
        return CommandSession(
            request: request, set: set, version: version, backend: backend, creationTimeout: configuration.streamCreationTimeout,
            firstSizePatience: configuration.firstSizePatience)
    }

    func forwarding(_ request: StreamRequest) throws -> PortForwardSession {
        guard case .portForward(let request) = request else { throw SwiftletError(.internal, "a command is no port-forward") }
        return PortForwardSession(
            request: request, backend: backend, creationTimeout: configuration.streamCreationTimeout,
            maximumPairs: configuration.maximumStreams)
    }

    /// Runs a session in a task of its own, which ends with the connection. A failure is logged here, once.
    ///
    /// - Parameter finish: called on the event loop when the session has ended.
    /// - Parameter failure: what the connection has failed with; called on the event loop.
    func serve(
        _ request: StreamRequest, _ channel: any Channel, finish: @escaping @Sendable () -> Void,
        failure: @escaping @Sendable () -> (any Error)?, _ run: @escaping @Sendable (ServerCore) async throws -> Void
    ) {
        let client = channel.remoteAddress?.description ?? "?"
        let task = Task {
            logger.debug("\(request.subject) for \(client) begins")
            do {
                try await run(self)
                logger.debug("\(request.subject) for \(client) has ended")
            } catch {
                let cause = try? await channel.eventLoop.submit { failure() }.get()
                logger.warning("\(request.subject) for \(client) failed: \((cause ?? nil) ?? error)")
            }
            channel.eventLoop.execute { finish() }
        }
        channel.closeFuture.whenComplete { _ in task.cancel() }
    }
}

/// Lets each stream that a command is to have be opened once. Used on one event loop.
private final class ExpectedStreams {
    private var missing: Set<CommandStream>

    init(_ streams: StreamSet, _ version: CommandProtocol) { missing = CommandStream.expected(streams, version) }

    func refusal(_ headers: [String: String]) -> String? {
        guard let type = headers["streamtype"].flatMap(CommandStream.init) else { return "the stream has no type that is known" }
        return missing.remove(type) == nil ? "a stream of type \(type) was not asked for, or is open" : nil
    }
}
