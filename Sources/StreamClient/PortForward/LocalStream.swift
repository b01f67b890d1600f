import Errors
import Glibc
import NIOCore
import NIOPosix
import StreamFrames
import Synchronization

/// A connection of this process's own as a stream, beside those that come to a ``PortListener``.
package struct LocalStream: Sendable {
    package let stream: ByteStream
    private let channel: any Channel

    private init(_ stream: ByteStream?, _ channel: any Channel) throws {
        guard let stream else { throw SwiftletError(.aborted, "the connection has ended") }
        (self.stream, self.channel) = (stream, channel)
    }

    /// - Throws: `.unavailable`, naming the path, when nobody listens there.
    package init(connectingTo path: String) async throws {
        let opened = Opened()
        do {
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelOption(.allowRemoteHalfClosure, value: true)
                .channelOption(.writeBufferWaterMark, value: .init(low: 64 << 10, high: 256 << 10))
                .channelInitializer(opened.initialize)
                .connect(unixDomainSocketPath: path).get()
            try self.init(opened.stream, channel)
        } catch let error as IOError {
            throw SwiftletError(.unavailable, path, cause: SystemError(error.errnoCode))
        } catch {
            throw SwiftletError.wrap(error, path, code: .unavailable)
        }
    }

    /// Two descriptors as one stream: pipes, sockets or a terminal. Each is duplicated.
    package init(input: Int32, output: Int32) async throws {
        let opened = Opened()
        let (input, output) = (fcntl(input, F_DUPFD_CLOEXEC, 3), fcntl(output, F_DUPFD_CLOEXEC, 3))
        guard input >= 0, output >= 0 else { throw SwiftletError.system("duplicate descriptors") }
        do {
            let channel = try await NIOPipeBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelOption(.allowRemoteHalfClosure, value: true)
                .channelOption(.writeBufferWaterMark, value: .init(low: 64 << 10, high: 256 << 10))
                .channelInitializer(opened.initialize)
                .takingOwnershipOfDescriptors(input: input, output: output).get()
            try self.init(opened.stream, channel)
        } catch {
            throw SwiftletError.wrap(error, "standard input and output", code: .unavailable)
        }
    }

    /// Waits until the connection is closed, and with it all that was written has gone.
    package func closed() async { try? await channel.closeFuture.get() }

    private final class Opened: Sendable {
        private let opened = Mutex<ByteStream?>(nil)

        var stream: ByteStream? { opened.withLock { $0 } }

        @Sendable func initialize(_ channel: any Channel) -> EventLoopFuture<Void> {
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(SocketHandler { stream in self.opened.withLock { $0 = stream } })
            }
        }
    }
}

/// Joins connections to a local port with a unix socket, each with a connection of its own.
package struct SocketProxy: Sendable {
    package let socket: String

    package init(socket: String) { self.socket = socket }

    /// Until the listener is closed; cancelled, it ends the connections.
    ///
    /// - Parameter failed: told of each connection that fails.
    package func run(_ listener: PortListener, failed: @escaping @Sendable (any Error) -> Void) async {
        await withDiscardingTaskGroup { group in
            for await local in listener.connections {
                group.addTask {
                    do {
                        let remote = try await LocalStream(connectingTo: socket)
                        await Self.join(local, remote.stream)
                    } catch {
                        local.reset()
                        failed(error)
                    }
                }
            }
        }
    }

    /// Carries bytes both ways until both directions have ended, or one stream has failed.
    static func join(_ first: ByteStream, _ second: ByteStream) async {
        let isComplete = await withTaskGroup(of: Bool?.self) { group in
            defer { group.cancelAll() }
            group.addTask { await pump(first, to: second) }
            group.addTask { await pump(second, to: first) }
            // A direction that has ended does not learn of it otherwise.
            for stream in [first, second] { group.addTask { await stream.waitForFailure() == nil ? nil : false } }
            var open = 2
            for await hasEnded in group {
                guard let hasEnded else { continue }
                guard hasEnded else { return false }
                open -= 1
                if open == 0 { return true }
            }
            return false
        }
        for stream in [first, second] {
            if isComplete { stream.release() } else { stream.reset() }
        }
    }

    private static func pump(_ source: ByteStream, to sink: ByteStream) async -> Bool {
        do {
            while let bytes = try await source.read() { try await sink.write(bytes) }
        } catch {
            return false
        }
        sink.end()
        return true
    }
}
