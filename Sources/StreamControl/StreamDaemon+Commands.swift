import Concurrency
import Errors
import Runtime

/// Sessions whose commands this process runs: streamd says when the client has come, and gets what came of it.
extension StreamDaemon {
    public func exec(
        of container: String, in sandbox: String, _ streams: SessionStreams, run: @escaping SessionCommand
    ) async throws -> String {
        let prepared = try await prepare(
            container, sandbox, streams, isJoined: false, StreamContract.commands, "commands cannot be run by qemu-guest-agent for sessions"
        )
        Task { await serve(prepared.session, over: prepared.client, run) }
        return prepared.url
    }

    public func exec(
        joining container: String, in sandbox: String, _ streams: SessionStreams, open: @escaping SessionProcess
    ) async throws -> String {
        let prepared = try await prepare(
            container, sandbox, streams, isJoined: true, StreamContract.conmon, "processes of the node cannot be joined by sessions")
        Task { await serve(prepared.session, of: sandbox, over: prepared.client, open) }
        return prepared.url
    }

    private func prepare(
        _ container: String, _ sandbox: String, _ streams: SessionStreams, isJoined: Bool, _ feature: String, _ otherwise: String
    ) async throws -> (session: String, url: String, client: StreamControlClient) {
        let session = String(UInt64.random(in: 0 ... .max), radix: 16) + String(UInt64.random(in: 0 ... .max), radix: 16)
        let request = StreamPrepareExecRequest.with {
            $0.containerID = container
            ($0.daemonCommand.sessionID, $0.daemonCommand.sandboxID, $0.daemonCommand.isJoined) = (session, sandbox, isJoined)
            ($0.stdin, $0.stdout, $0.stderr, $0.terminal) = (streams.stdin, streams.stdout, streams.stderr, streams.terminal)
        }
        return try await connected { client in
            try client.require(feature, otherwise)
            return (session, try await client.call(.prepareExec, request, timeout: .seconds(10)).url, client)
        }
    }

    /// Has the process made when the client has come. What becomes of it then is not this process's to know.
    private func serve(
        _ session: String, of sandbox: String, over client: StreamControlClient, _ open: @escaping SessionProcess
    ) async {
        let arrival: StreamAwaitSessionResponse
        do {
            arrival = try await client.call(.awaitSession, .with { $0.sessionID = session }, timeout: nil)
        } catch {
            return logger.debug("nobody has come for a session", metadata: ["error": "\(error)"])
        }
        do {
            let (width, height) = (UInt16(clamping: arrival.width), UInt16(clamping: arrival.height))
            try await open(width > 0 && height > 0 ? InitialTerminalSize(width: width, height: height) : nil) { process in
                let request = StreamJoinProcessRequest(session, process, sandbox: sandbox)
                _ = try await client.call(.joinProcess, request, timeout: .seconds(10))
            }
        } catch {
            let request = StreamDeliverOutputRequest.with { ($0.sessionID, $0.failure) = (session, "\(error)") }
            _ = try? await client.call(.deliverOutput, request, timeout: .seconds(10))
        }
    }

    /// Runs the command when the client has come, and no longer than the session and the connection last.
    private func serve(_ session: String, over client: StreamControlClient, _ run: @escaping SessionCommand) async {
        do {
            _ = try await client.call(.awaitSession, .with { $0.sessionID = session }, timeout: nil)
        } catch {
            return logger.debug("nobody has come for a session", metadata: ["error": "\(error)"])
        }
        do {
            try await withWatch({
                let request = StreamAwaitSessionRequest.with { ($0.sessionID, $0.hasBegun_p) = (session, true) }
                _ = try await client.call(.awaitSession, request, timeout: nil)
                throw SwiftletError(.cancelled, "the session has ended")
            }) {
                try await run { try await Self.deliver($0, to: session, over: client) }
            }
        } catch {
            let request = StreamDeliverOutputRequest.with { ($0.sessionID, $0.failure) = (session, "\(error)") }
            // Nobody is to be told where the session has ended, or streamd.
            _ = try? await client.call(.deliverOutput, request, timeout: .seconds(10))
        }
    }

    /// Bytes of one call.
    private static let piece = 256 << 10

    /// For a client to take a piece: until then it holds memory that others wait for.
    private static let patience = Duration.seconds(60)

    /// Returns when streamd has taken it all.
    ///
    /// - Throws: `.deadlineExceeded` for a client that reads too slowly.
    private static func deliver(_ result: ExecResult, to session: String, over client: StreamControlClient) async throws {
        for (bytes, field) in [(result.stdout, \StreamDeliverOutputRequest.stdout), (result.stderr, \.stderr)] {
            for start in stride(from: 0, to: bytes.count, by: piece) {
                var request = StreamDeliverOutputRequest.with { $0.sessionID = session }
                request[keyPath: field] = .init(bytes[start..<min(start + piece, bytes.count)])
                _ = try await client.call(.deliverOutput, request, timeout: patience)
            }
        }
        guard !result.isCut else {
            let kept = result.stdout.count + result.stderr.count
            throw SwiftletError(
                .resourceExhausted,
                "the command wrote more than the \(kept) bytes that were kept; it ended with exit code \(result.exitCode)")
        }
        let end = StreamDeliverOutputRequest.with { ($0.sessionID, $0.exitCode) = (session, result.exitCode) }
        _ = try await client.call(.deliverOutput, end, timeout: nil)
    }
}
