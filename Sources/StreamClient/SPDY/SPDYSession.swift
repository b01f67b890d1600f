import Errors
import NIOCore
import NIOHTTP1
import StreamFrames

/// A SPDY/3.1 connection to a streaming server, on which this end opens the streams.
package final class SPDYSession: Sendable {
    /// Streams that may be open at once, as many as our server takes.
    package static let maximumStreams = 2048
    private static let versionHeader = "X-Stream-Protocol-Version"

    /// What the server has chosen of the versions that were asked for.
    package let version: String
    private let channel: any Channel
    private let handler: NIOLoopBound<SPDYHandler>
    private let failure: EventLoopFuture<any Error>

    /// Connects, and asks for one of `versions`, the best first.
    ///
    /// - Throws: as ``SessionConnector/connect(to:_:start:)``; `.failedPrecondition` for a server that chooses none of them.
    package static func connect(to url: String, versions: [String], by connector: SessionConnector) async throws -> SPDYSession {
        let headers = HTTPHeaders(versions.map { (versionHeader, $0) })
        return try await connector.connect(to: url, .init("SPDY/3.1", method: .POST, headers: headers)) { answer, channel in
            guard let version = answer.first(name: versionHeader), versions.contains(version) else {
                throw SwiftletError(
                    .failedPrecondition, "the server answers with version \(quoted(answer.first(name: versionHeader) ?? "")) of the streams"
                )
            }
            return try SPDYSession(channel, version)
        }
    }

    /// On the channel's event loop.
    private init(_ channel: any Channel, _ version: String) throws {
        (self.channel, self.version) = (channel, version)
        let promise = channel.eventLoop.makePromise(of: (any Error).self)
        failure = promise.futureResult
        let handler = SPDYHandler(
            maximumStreams: Self.maximumStreams, close: { $0.close(promise: nil) },
            onFailure: { error in
                let isFault = error is SPDYConnectionError
                promise.succeed(isFault ? SwiftletError(.internal, "the server breaks SPDY's rules", cause: error) : error)
            })
        self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        try channel.pipeline.syncOperations.addHandler(handler)
    }

    /// Opens a stream, without waiting for the server's reply: one that it refuses fails.
    ///
    /// Whoever opens a stream ends it by ``ByteStream/release()`` or ``ByteStream/reset()``.
    /// - Throws: when the connection has ended, its server is leaving, or ``maximumStreams`` are open.
    package func open(_ headers: [(name: String, value: String)]) async throws -> ByteStream {
        try await channel.eventLoop.submit { [handler] in try handler.value.open(headers) }.get()
    }

    /// Waits for the connection's end. Cancelled, it ends the connection.
    ///
    /// - Returns: what has ended it.
    package func ended() async -> any Error {
        await withTaskCancellationHandler {
            do { return try await failure.get() } catch { return error }
        } onCancel: {
            end()
        }
    }

    /// What has ended the connection; nil while it is there.
    package func failed() async -> (any Error)? { try? await channel.eventLoop.submit { [handler] in handler.value.failure }.get() }

    /// Says that nothing follows, and closes the connection: streams that are open fail.
    package func end() { channel.eventLoop.execute { [handler] in handler.value.finish() } }
}
