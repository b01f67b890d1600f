import CLinux
import Errors
import Glibc
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Serves a registry's text at `GET /metrics` over HTTP/1.1, and nothing else.
public final class MetricsEndpoint: Sendable {
    /// Connections at once; another one is closed.
    static let maximumConnections = 32
    /// A connection that sends no request for so long is closed.
    static let patience = TimeAmount.seconds(10)

    /// Where it listens, with the port that the kernel chose.
    public let address: MetricsAddress
    private let channel: any Channel

    private init(address: MetricsAddress, channel: any Channel) {
        self.address = address
        self.channel = channel
    }

    /// - Throws: `.alreadyExists` where somebody listens, else what binding failed with.
    public static func start(at address: MetricsAddress, _ registry: PrometheusRegistry) async throws -> MetricsEndpoint {
        let connections = Connections()
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                guard connections.enter(channel) else { return channel.close() }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(IdleStateHandler(readTimeout: patience))
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(MetricsHandler(registry))
                }
            }
        do {
            switch address {
            case .unix(let path):
                let channel = try await bootstrap.withBoundSocket(boundSocket(path)).get()
                return MetricsEndpoint(address: address, channel: channel)
            case .tcp(let host, let port):
                let channel = try await bootstrap.bind(host: host, port: port).get()
                return MetricsEndpoint(
                    address: .tcp(host: host, port: channel.localAddress?.port ?? port), channel: channel)
            }
        } catch {
            throw SwiftletError.wrap(error, "serve metrics on \(address)", code: .unavailable)
        }
    }

    /// Connections that are open end by themselves.
    public func stop() async {
        try? await channel.close()
        if case .unix(let path) = address { unlink(path) }
    }

    /// A unix socket for the daemon's user and group. A file that nobody listens at goes.
    private static func boundSocket(_ path: String) throws -> CInt {
        let descriptor = clinux_unix_socket()
        guard descriptor >= 0 else { throw IOError(errnoCode: errno, reason: "socket") }
        if bind(descriptor, to: path) { return descriptor }
        var failure = errno
        if failure == EADDRINUSE {
            guard isStale(path) else {
                close(descriptor)
                throw SwiftletError(.alreadyExists, "another process listens there, or a file is in the way")
            }
            unlink(path)
            if bind(descriptor, to: path) { return descriptor }
            failure = errno
        }
        close(descriptor)
        throw IOError(errnoCode: failure, reason: "bind")
    }

    private static func bind(_ descriptor: CInt, to path: String) -> Bool {
        // bind(2) takes the umask's bits away.
        clinux_unix_bind(descriptor, path, 0o600) == 0 && chmod(path, 0o660) == 0
    }

    /// Whether it is a socket that nobody listens at. Connecting to a file of another kind is refused as well.
    private static func isStale(_ path: String) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return false }
        let probe = clinux_unix_socket()
        defer { close(probe) }
        return clinux_unix_connect(probe, path) != 0 && errno == ECONNREFUSED
    }
}

/// Counts the connections that are open.
private final class Connections: Sendable {
    private let count = Mutex(0)

    func enter(_ channel: any Channel) -> Bool {
        let isRoom = count.withLock { count in
            guard count < MetricsEndpoint.maximumConnections else { return false }
            count += 1
            return true
        }
        if isRoom { channel.closeFuture.whenComplete { _ in self.count.withLock { $0 -= 1 } } }
        return isRoom
    }
}

/// Answers one request of a connection, which ends with the answer.
private final class MetricsHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let registry: PrometheusRegistry
    private var hasAnswered = false

    init(_ registry: PrometheusRegistry) {
        self.registry = registry
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = unwrapInboundIn(data), !hasAnswered else { return }
        hasAnswered = true
        let path = head.uri.prefix { $0 != "?" }
        if path != "/metrics" {
            answer(context, head, .notFound, "metrics are at /metrics\n")
        } else if head.method != .GET {
            answer(context, head, .methodNotAllowed, "use GET\n")
        } else {
            answer(context, head, .ok, registry.text(), TextFormat.contentType)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func answer(
        _ context: ChannelHandlerContext, _ request: HTTPRequestHead, _ status: HTTPResponseStatus, _ text: String,
        _ type: String = "text/plain; charset=utf-8"
    ) {
        let body = context.channel.allocator.buffer(string: text)
        var headers: HTTPHeaders = ["content-type": type, "content-length": "\(body.readableBytes)", "connection": "close"]
        if status == .methodNotAllowed { headers.add(name: "allow", value: "GET") }
        let head = HTTPResponseHead(version: request.version, status: status, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in channel.close(promise: nil) }
    }
}
