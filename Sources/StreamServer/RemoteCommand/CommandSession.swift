import Concurrency
import Errors
import Logging
import NIOCore
import StreamFrames

/// One exec or attach: the client's streams joined with a process.
struct CommandSession: Sendable {
    let request: StreamRequest
    let set: StreamSet
    let version: CommandProtocol
    let backend: any StreamBackend
    let creationTimeout: Duration
    let firstSizePatience: Duration

    /// The client's streams by type, once all that it is to open are there.
    struct Streams: Sendable {
        let error: ByteStream
        let stdin: ByteStream?
        let stdout: ByteStream?
        let stderr: ByteStream?
        let resize: ByteStream?

        func of(_ type: CommandStream) -> ByteStream? {
            switch type {
            case .stdin: stdin
            case .stdout: stdout
            case .stderr: stderr
            case .error: error
            case .resize: resize
            }
        }

        var all: [ByteStream] { [stdin, stdout, stderr, resize, error].compactMap(\.self) }
    }

    /// - Parameter greeting: the stream that gets a message without bytes at the beginning, which some clients over WebSocket wait for.
    /// - Throws: what the session failed with, for the log. The client was told where it could be.
    func run(_ opened: AsyncStream<ByteStream>, greeting: CommandStream? = nil) async throws {
        let streams = try await collect(opened)
        if let greeting { try await streams.of(greeting)?.write(ByteBuffer()) }
        // All streams end with the session, also towards a client that waits for the end of what it writes.
        defer { for stream in streams.all { stream.end() } }
        do {
            let code = try await join(streams)
            try await tell(.exited(code), streams.error)
        } catch let error where !(error is CancellationError) && !Task.isCancelled {
            try? await tell(.failed(SwiftletError.wrap(error, request.subject).description), streams.error)
            throw error
        }
    }

    private func collect(_ opened: AsyncStream<ByteStream>) async throws -> Streams {
        let expected = CommandStream.expected(set, version)
        let found = try await withDeadline(creationTimeout, "waiting for the client to open its streams") {
            var found: [CommandStream: ByteStream] = [:]
            for await stream in opened {
                guard let type = stream.headers["streamtype"].flatMap(CommandStream.init) else { continue }
                found[type] = stream
                if found.count == expected.count { return found }
            }
            throw SwiftletError(.aborted, "the client has left before it opened its streams")
        }
        guard let error = found[.error] else { throw SwiftletError(.internal, "no error stream") }
        return Streams(
            error: error, stdin: found[.stdin], stdout: found[.stdout], stderr: found[.stderr], resize: found[.resize])
    }

    private func join(_ streams: Streams) async throws -> Int32 {
        let sizes = streams.resize.map(TerminalSizes.init)
        let size = await sizes?.first(within: firstSizePatience)
        let session =
            switch request {
            case .exec(let request): try await backend.exec(request, size: size)
            case .attach(let request): try await backend.attach(request, size: size)
            case .portForward: throw SwiftletError(.internal, "a port-forward is no command")
            }
        let end = SessionEnd { await session.end() }
        return try await withTaskCancellationHandler {
            do {
                let code = try await carry(streams, sizes, session, end)
                await end.run()
                return code
            } catch {
                await end.run()
                throw error
            }
        } onCancel: {
            Task { await end.run() }
        }
    }

    private enum Part: Sendable {
        case input
        case exit(Int32)
    }

    private func carry(
        _ streams: Streams, _ sizes: TerminalSizes?, _ session: any ProcessSession, _ end: SessionEnd
    ) async throws -> Int32 {
        try await withThrowingTaskGroup(of: Part.self) { group in
            group.addTask {
                await Pump.feed(streams.stdin, to: session.stdin)
                return .input
            }
            if let sizes {
                group.addTask {
                    for await size in sizes.all { await session.resize(size) }
                    return .input
                }
            }
            group.addTask {
                async let stdout: Void = Pump.drain(session.stdout, to: streams.stdout)
                async let stderr: Void = Pump.drain(session.stderr, to: streams.stderr)
                _ = try await (stdout, stderr)
                return .exit(try await session.wait())
            }
            // A writer to the process' stdin may wait for a reader that is not there, however the session ends.
            do {
                while let part = try await group.next() {
                    guard case .exit(let code) = part else { continue }
                    group.cancelAll()
                    await end.run()
                    return code
                }
            } catch {
                group.cancelAll()
                await end.run()
                throw error
            }
            throw SwiftletError(.internal, "the session has no end")
        }
    }

    private func tell(_ outcome: CommandOutcome, _ stream: ByteStream) async throws {
        guard let message = outcome.message(version) else { return }
        try await stream.write(ByteBuffer(string: message))
    }
}
