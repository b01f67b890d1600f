import Errors
import Glibc
import NIOCore
import NIOPosix
import StreamFrames

/// A local address and port, and the connections that come there.
package struct PortListener: Sendable {
    /// "127.0.0.1:8080", "[::1]:8080".
    package let name: String
    package let port: UInt16
    let connections: AsyncStream<ByteStream>
    private let channel: any Channel

    /// - Parameters:
    ///   - address: an IP address.
    ///   - port: 0 for one that is free.
    /// - Throws: `.unavailable`, naming address and port, when they cannot be listened on.
    package init(_ address: String, port: UInt16) async throws {
        let (connections, opened) = AsyncStream.makeStream(of: ByteStream.self)
        do {
            let socket = try SocketAddress(ipAddress: address, port: Int(port))
            var bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .serverChannelOption(.backlog, value: 512)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelOption(.allowRemoteHalfClosure, value: true)
                .childChannelOption(.writeBufferWaterMark, value: .init(low: 64 << 10, high: 256 << 10))
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let handler = SocketHandler { stream in
                            if case .terminated = opened.yield(stream) { stream.reset() }
                        }
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                }
            if case .v6 = socket {
                // The address of the other kind is listened on by itself.
                let only = ChannelOptions.socket(SocketOptionLevel(IPPROTO_IPV6), SocketOptionName(IPV6_V6ONLY))
                bootstrap = bootstrap.serverChannelOption(only, value: 1)
            }
            channel = try await bootstrap.bind(to: socket).get()
        } catch let error as IOError {
            throw SwiftletError(.unavailable, Self.name(address, port), cause: SystemError(error.errnoCode))
        } catch {
            throw SwiftletError.wrap(error, Self.name(address, port), code: .unavailable)
        }
        self.port = UInt16(channel.localAddress?.port ?? Int(port))
        self.connections = connections
        name = Self.name(address, self.port)
        channel.closeFuture.whenComplete { _ in opened.finish() }
    }

    /// Takes no connection any more; those that are there go on.
    package func close() async { try? await channel.close() }

    private static func name(_ address: String, _ port: UInt16) -> String {
        (address.contains(":") ? "[\(address)]" : address) + ":\(port)"
    }
}
