import NIOCore
import NIOPosix

/// Writes lines of JSON to a unix stream socket that a collector listens on, as Vector's and the OpenTelemetry collector's sources do.
struct SocketDelivery {
    /// Bytes of the log in one write.
    private static let batch = 64 << 10

    let path: String
    let queue: LineQueue
    let health: CollectorHealth

    func run() async {
        var lines = JSONLines()
        var connection: (any Channel)?
        for await _ in queue.arrivals {
            while !Task.isCancelled, let pieces = queue.take(atMost: Self.batch) {
                let bytes = ByteBuffer(bytes: lines.encode(pieces))
                connection = await write(bytes, pieces.lineCount, to: connection)
            }
        }
        try? await connection?.close()
    }

    /// Returns when a collector's kernel has all bytes, whole lines on one connection, or the task is cancelled.
    private func write(_ bytes: ByteBuffer, _ lines: Int, to former: (any Channel)?) async -> (any Channel)? {
        var pause = RetryPause(first: .milliseconds(100), longest: .seconds(5))
        var connection = former
        while !Task.isCancelled {
            do {
                let channel = try await connected(connection)
                connection = channel
                // A collector that does not read holds the write up, and nothing else.
                try await withTaskCancellationHandler {
                    try await channel.writeAndFlush(bytes).get()
                } onCancel: {
                    channel.close(promise: nil)
                }
                health.sent(lines)
                return channel
            } catch {
                if Task.isCancelled { break }
                try? await connection?.close()
                connection = nil
                health.failed("\(error)")
                try? await Task.sleep(for: pause.advance())
            }
        }
        try? await connection?.close()
        return nil
    }

    private func connected(_ former: (any Channel)?) async throws -> any Channel {
        if let former, former.isActive { return former }
        // What a collector sends is read and dropped, so that its end is seen.
        return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: false)
            .connectTimeout(.seconds(10))
            .connect(unixDomainSocketPath: path).get()
    }
}

extension [CollectedPiece] {
    /// Of logs, not of gaps.
    var lineCount: Int {
        reduce(0) { sum, piece in
            guard case .lines(let lines) = piece.content else { return sum }
            return sum + lines.lineCount
        }
    }
}
