import Errors
import Logs
import NIOCore
import Runtime
import StreamServer
import Synchronization

/// The conmons of containers that clients are attached to: one connection each, from which all clients are shown what comes.
///
/// conmon takes the end of any client for the end of the container's input, where that ends with its first client (stdinOnce). The
/// connection of such a container is kept for as long as the container runs.
final class ConmonAttachments: Sendable {
    private struct Shared {
        let connection: ConmonConnection
        let followers: OutputFollowers
        var users = 0
    }

    private let shared = Mutex<[String: Shared]>([:])

    /// - Throws: `.unavailable` when conmon has ended.
    func join(_ request: AttachRequest, _ endpoint: ConmonEndpoint, size: TerminalSize?) async throws -> ConmonAttachment {
        let socket = endpoint.socket
        let (follower, connection) = try shared.withLock { shared in
            var entry = try shared[socket] ?? connect(to: socket)
            entry.users += 1
            shared[socket] = entry
            return (entry.followers.join(), entry.connection)
        }
        let attachment = ConmonAttachment(request, endpoint, follower, connection) { [self] in
            leave(socket, connection, keeps: endpoint.hasInput && request.endsInput)
        }
        if let size { await attachment.resize(size) }
        return attachment
    }

    private func connect(to socket: String) throws -> Shared {
        let followers = OutputFollowers()
        let connection = try ConmonConnection(to: socket) { _, bytes, stream in followers.show(bytes, from: stream) }
        Task {
            try? await connection.ended.wait()
            shared.withLock { if $0[socket]?.connection === connection { $0[socket] = nil } }
            for stream in StandardStream.allCases { followers.finish(stream) }
        }
        return Shared(connection: connection, followers: followers)
    }

    private func leave(_ socket: String, _ connection: ConmonConnection, keeps: Bool) {
        let isLast = shared.withLock { shared in
            guard var entry = shared[socket], entry.connection === connection else { return false }
            entry.users -= 1
            let isLast = entry.users == 0 && !keeps
            shared[socket] = isLast ? nil : entry
            return isLast
        }
        guard isLast else { return }
        Task {
            // What the last client has written is still the container's.
            for _ in 0..<Self.looks where connection.waiting > 0 { try? await Task.sleep(for: Self.interval) }
            connection.close()
        }
    }

    private static let (looks, interval) = (100, Duration.milliseconds(50))
}

/// A running container's first process on the node, seen from now on. It goes on when the session ends.
final class ConmonAttachment: ProcessSession {
    private let request: AttachRequest
    private let endpoint: ConmonEndpoint
    private let follower: OutputFollower
    private let connection: ConmonConnection
    private let leave: @Sendable () -> Void

    var stdin: (any ByteSink)? {
        request.streams.stdin && endpoint.hasInput ? Sink(connection: connection, endsInput: request.endsInput) : nil
    }
    var stdout: (any ByteSource)? { request.streams.stdout ? Source(follower: follower, stream: .stdout) : nil }
    var stderr: (any ByteSource)? { request.streams.stderr ? Source(follower: follower, stream: .stderr) : nil }

    /// - Parameter leave: called once, when the session ends.
    init(
        _ request: AttachRequest, _ endpoint: ConmonEndpoint, _ follower: OutputFollower, _ connection: ConmonConnection,
        leave: @escaping @Sendable () -> Void
    ) {
        (self.request, self.endpoint, self.follower, self.connection, self.leave) = (request, endpoint, follower, connection, leave)
    }

    func resize(_ size: TerminalSize) async {
        await ConmonControl.resize(endpoint.control, width: size.width, height: size.height)
    }

    /// What a container's exit code means to who watches it is in its status: a session that has seen its end has succeeded.
    func wait() async throws -> Int32 {
        try await connection.ended.wait()
        return 0
    }

    func end() async {
        follower.leave()
        if request.streams.stdin, request.endsInput { connection.finishInput() }
        leave()
    }

    private struct Source: ByteSource {
        let follower: OutputFollower
        let stream: StandardStream

        func read() async throws -> ByteBuffer? { await follower.read(stream).map { ByteBuffer(bytes: $0) } }
    }

    private struct Sink: ByteSink {
        let connection: ConmonConnection
        let endsInput: Bool

        func write(_ bytes: ByteBuffer) async throws { try await connection.write(Array(bytes.readableBytesView)) }

        func close() async {
            if endsInput { connection.finishInput() }
        }
    }
}
