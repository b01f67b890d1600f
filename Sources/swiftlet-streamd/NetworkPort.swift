import Errors
import Glibc
import NIOCore
import NIOPosix
import StreamServer

/// A TCP connection to a port of a pod, by the node's own route to it, as the kubelet's probes take.
///
/// Within the pod's namespace its address is one of the namespace's own: a connection from there would not come to the machine.
final class NetworkPort: PortConnection, ByteSink {
    private static let patience = TimeAmount.seconds(10)
    /// A machine that is gone says nothing: how long nothing comes before it is asked for, how often and how many times.
    private static let keepalive: [(CInt, Int)] = [(TCP_KEEPIDLE, 30), (TCP_KEEPINTVL, 10), (TCP_KEEPCNT, 6)]

    private let channel: any Channel
    private let received: OutputQueue
    private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
    private let carrying: Task<Void, Never>
    private let onEnd: @Sendable () -> Void

    var input: any ByteSink { self }
    var output: any ByteSource { received }

    /// - Parameter onEnd: runs once, after the connection or when there is none.
    /// - Throws: `.unavailable` when nobody listens.
    static func connect(to address: String, _ port: UInt16, onEnd: @escaping @Sendable () -> Void) async throws -> NetworkPort {
        do {
            let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelOption(.allowRemoteHalfClosure, value: true)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelOption(.socketOption(.so_keepalive), value: 1)
                .connectTimeout(patience)
            let channel = try await keepalive.reduce(bootstrap) { $0.channelOption(.tcpOption(.init(rawValue: $1.0)), value: $1.1) }
                .connect(to: try SocketAddress(ipAddress: address, port: Int(port))) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(
                            wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
                    }
                }
            return try await carry(channel, onEnd)
        } catch {
            onEnd()
            throw failure(of: error, "connect to port \(port) of the pod at \(address)")
        }
    }

    /// Takes over a connected socket.
    ///
    /// - Throws: what `connect` throws.
    static func adopt(onEnd: @escaping @Sendable () -> Void, _ connect: () async throws -> Int32) async throws -> NetworkPort {
        do {
            let descriptor = try await connect()
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelOption(.allowRemoteHalfClosure, value: true)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .withConnectedSocket(descriptor) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(
                            wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
                    }
                }
            return try await carry(channel, onEnd)
        } catch {
            onEnd()
            throw error
        }
    }

    private static func failure(of error: any Error, _ step: String) -> SwiftletError {
        switch error {
        case let error as IOError: SwiftletError(.unavailable, step, cause: SystemError(error.errnoCode))
        case ChannelError.connectTimeout: SwiftletError(.unavailable, "\(step): no answer")
        default: SwiftletError(.unavailable, step, cause: error)
        }
    }

    private static func carry(
        _ channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>, _ onEnd: @escaping @Sendable () -> Void
    ) async throws -> NetworkPort {
        let received = OutputQueue()
        let (opened, open) = AsyncStream<NIOAsyncChannelOutboundWriter<ByteBuffer>>.makeStream()
        let carrying = Task {
            do {
                try await channel.executeThenClose { inbound, outbound in
                    open.yield(outbound)
                    for try await bytes in inbound { await received.put(bytes) }
                    received.finish()
                    // The other direction may go on.
                    try await channel.channel.closeFuture.get()
                }
            } catch {
                received.finish(.failure(error))
            }
            open.finish()
        }
        for await outbound in opened { return NetworkPort(channel.channel, received, outbound, carrying, onEnd) }
        channel.channel.close(promise: nil)
        await carrying.value
        throw CancellationError()
    }

    private init(
        _ channel: any Channel, _ received: OutputQueue, _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>,
        _ carrying: Task<Void, Never>, _ onEnd: @escaping @Sendable () -> Void
    ) {
        (self.channel, self.received, self.outbound, self.carrying, self.onEnd) = (channel, received, outbound, carrying, onEnd)
    }

    func write(_ bytes: ByteBuffer) async throws { try await outbound.write(bytes) }

    func close() async { outbound.finish() }

    func end() async {
        received.finish()
        channel.close(promise: nil)
        await carrying.value
        onEnd()
    }
}
