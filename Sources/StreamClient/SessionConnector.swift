import Errors
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// Connects to the URLs that Exec, Attach and PortForward return, by an upgrade of HTTP/1.1.
public struct SessionConnector: Sendable {
    /// What a connection is to become.
    public struct Upgrade: Sendable {
        /// `SPDY/3.1` or `websocket`.
        public var name: String
        public var method: HTTPMethod
        /// Beside Host, Connection and Upgrade.
        public var headers: HTTPHeaders

        public init(_ name: String, method: HTTPMethod, headers: HTTPHeaders) {
            (self.name, self.method, self.headers) = (name, method, headers)
        }
    }

    private let tls: NIOSSLContext?
    private let timeout: Duration

    /// - Parameters:
    ///   - authorities: a PEM file of the certificates that a server's has to be issued by; nil for those that the system trusts.
    ///   - timeout: from the beginning of the connection to the server's answer.
    /// - Throws: where the file cannot be used.
    public init(authorities: String? = nil, timeout: Duration = .seconds(30)) throws {
        self.timeout = timeout
        do {
            tls = try authorities.map { file in
                var configuration = TLSConfiguration.makeClientConfiguration()
                configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(file))
                return try NIOSSLContext(configuration: configuration)
            }
        } catch {
            throw SwiftletError(.invalidArgument, "\(authorities ?? ""): no certificates can be read", cause: error)
        }
    }

    /// Connects and upgrades, and hands on all bytes that follow the server's answer, also those that came with it.
    ///
    /// - Parameters:
    ///   - start: called on the channel's event loop at the upgrade, before any byte is read: adds the handlers of what comes then.
    ///     It is given the headers of the answer. The channel allows half-closure, and belongs to `start` from there on.
    /// - Throws: `.unavailable` where nobody can be reached, `.deadlineExceeded`; what `start` throws; and of a server that does not upgrade,
    ///   what it says: `.notFound` for a token that is not known any more, `.permissionDenied` where no version is common, else
    ///   `.failedPrecondition`.
    public func connect<Value: Sendable>(
        to url: String, _ upgrade: Upgrade, start: @escaping @Sendable (HTTPHeaders, any Channel) throws -> Value
    ) async throws -> Value {
        let address = try SessionURL(url)
        let step = "connect to \(address.isTLS ? "https" : "http")://\(address.authority)"
        do {
            let (channel, value) = try await open(address, upgrade, start)
            return try await withTaskCancellationHandler {
                try await value.get()
            } onCancel: {
                channel.close(promise: nil)
            }
        } catch let error as NIOConnectionError {
            throw SwiftletError(.unavailable, "\(step): \(error.reason)")
        } catch {
            throw SwiftletError.wrap(error, step, code: .unavailable)
        }
    }

    private func open<Value: Sendable>(
        _ address: SessionURL, _ upgrade: Upgrade, _ start: @escaping @Sendable (HTTPHeaders, any Channel) throws -> Value
    ) async throws -> (any Channel, EventLoopFuture<Value>) {
        let tls = address.isTLS ? try self.tls ?? NIOSSLContext(configuration: .makeClientConfiguration()) : nil
        let timeout = TimeAmount(timeout)
        return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(timeout)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.writeBufferWaterMark, value: .init(low: 64 << 10, high: 256 << 10))
            .connect(host: address.host, port: address.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        let handler = try NIOSSLClientHandler(context: tls, serverHostname: address.isIPAddress ? nil : address.host)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    let handler = UpgradeHandler(address, upgrade, timeout: timeout, on: channel, start)
                    try handler.configure(channel)
                    return (channel, handler.value)
                }
            }
    }

    /// The same with bytes both ways. Ending what is written half-closes the connection.
    public func connect(
        to url: String, _ upgrade: Upgrade
    ) async throws -> (headers: HTTPHeaders, bytes: NIOAsyncChannel<ByteBuffer, ByteBuffer>) {
        try await connect(to: url, upgrade) { headers, channel in
            (headers, try NIOAsyncChannel(wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true)))
        }
    }
}

extension NIOConnectionError {
    /// Why the last of the addresses could not be connected to, or the name has none.
    fileprivate var reason: String {
        if let failure = connectionErrors.last { return "\(failure.error)" }
        return "\(host) has no address: \((dnsAError ?? dnsAAAAError).map { "\($0)" } ?? "")"
    }
}
