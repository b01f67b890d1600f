import Errors
import Logging
import NIOCore
import NIOPosix
import NIOSSL

/// Serves exec, attach and port-forward over HTTP/1.1 upgraded to SPDY/3.1 or WebSocket, to whoever has a token.
public final class StreamServer: Sendable {
    /// With the port that the kernel chose.
    public let port: Int
    private let core: ServerCore
    private let channel: any Channel

    private init(_ core: ServerCore, _ channel: any Channel) {
        (self.core, self.channel) = (core, channel)
        port = channel.localAddress?.port ?? core.configuration.port
    }

    /// - Parameters:
    ///   - places: what the sessions are counted in.
    ///   - now: a monotonic clock, for tokens.
    /// - Throws: what listening failed with, or that the certificate cannot be used.
    public static func start(
        _ configuration: ServerConfiguration, _ backend: any StreamBackend, places: SessionPlaces = SessionPlaces(), logger: Logger,
        now: @escaping @Sendable () -> Duration = { .nanoseconds(Int64(NIODeadline.now().uptimeNanoseconds)) }
    ) async throws -> StreamServer {
        let core = ServerCore(configuration, TokenStore(places: places, now: now), backend, logger)
        let tls = try configuration.tls.map(TLSContext.init)
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.backlog, value: 256)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: false)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 64 << 10, high: 256 << 10))
            .childChannelInitializer { channel in
                guard core.enter(channel) else { return channel.close() }
                return channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        let context = tls.context { logger.error("streams go on with the former certificate: \($0)") }
                        try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
                    }
                    try UpgradeHandler.configure(channel, core)
                }
            }
        do {
            return StreamServer(core, try await bootstrap.bind(host: configuration.host, port: configuration.port).get())
        } catch {
            throw SwiftletError.wrap(error, "serve streams on \(configuration.host) port \(configuration.port)", code: .unavailable)
        }
    }

    /// The URL where the request is served once, within a minute.
    ///
    /// - Throws: `.resourceExhausted` while too many wait, or are served.
    public func url(for request: StreamRequest) throws -> String { "\(url)/\(request.route)/\(try core.tokens.mint(request))" }

    /// What all URLs begin with: `https://192.0.2.1:10351`.
    public var url: String {
        let host = core.configuration.host.contains(":") ? "[\(core.configuration.host)]" : core.configuration.host
        return "\(core.configuration.tls == nil ? "http" : "https")://\(host):\(port)"
    }

    /// Takes no more connections; those that are there go on. URLs that nobody has come for have no session any more.
    public func close() async {
        try? await channel.close()
        core.tokens.forget()
    }

    /// Whether nobody is connected.
    public var isEmpty: Bool { core.isEmpty }

    /// Ends all sessions.
    public func stop() async {
        await close()
        core.closeAll()
    }
}
