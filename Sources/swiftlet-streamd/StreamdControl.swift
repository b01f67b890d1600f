import Errors
import Foundation
import LogCollection
import Logs
import Runtime
import StreamControl
import StreamServer
import SwiftletVersion

/// What swiftletd asks for.
struct StreamdControl: StreamControlHandler {
    let sessions: SessionPort
    /// As the process was started with.
    let positions: String
    let guests: Guests
    let logs: LocalOutput
    /// For collectors.
    let written: WrittenLogs
    let collectors: LogCollectors
    let commands: DaemonCommands

    func info(_ request: StreamGetInfoRequest) async throws -> StreamGetInfoResponse {
        .with {
            $0.version = swiftletVersion
            $0.features = [
                StreamContract.logs, StreamContract.configure, StreamContract.collection, StreamContract.rotation,
                StreamContract.console, StreamContract.network, StreamContract.commands, StreamContract.conmon,
                StreamContract.loopback, StreamContract.written,
            ]
            ($0.address, $0.url, $0.unserved) = (sessions.address, sessions.url, sessions.unserved)
            $0.pid = getpid()
            $0.positions = positions
            $0.collectors = collectors.states.map(StreamCollector.init)
        }
    }

    // MARK: Sessions

    func configure(_ request: StreamConfigureRequest) async throws -> StreamConfigureResponse {
        let sessionConfiguration = try SessionConfiguration(request)
        collectors.configure(try CollectionConfiguration(request.collection))
        await sessions.configure(sessionConfiguration)
        return StreamConfigureResponse()
    }

    func prepareExec(_ request: StreamPrepareExecRequest) async throws -> StreamPreparedSession {
        let streams = try StreamSet(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.terminal)
        guard request.hasDaemonCommand else {
            let exec = ExecRequest(
                containerID: request.containerID, address: try guests.admit(request.guest).text, command: request.command, streams: streams)
            return try prepared(.exec(exec))
        }
        guard request.daemonCommand.isJoined || !streams.stdin && !streams.tty else {
            throw SwiftletError(.invalidArgument, "a command that swiftletd runs has neither stdin nor a terminal")
        }
        // Before the session is one.
        let server = try sessions.server()
        let command = request.daemonCommand
        let exec = ExecRequest(
            containerID: request.containerID, address: try commands.expect(command.sessionID), command: [], streams: streams,
            pod: command.sandboxID)
        let url = try server.url(for: .exec(exec))
        return .with { $0.url = url }
    }

    func awaitSession(_ request: StreamAwaitSessionRequest) async throws -> StreamAwaitSessionResponse {
        guard !request.hasBegun_p else {
            try await commands.waitForEnd(of: request.sessionID)
            return StreamAwaitSessionResponse()
        }
        let size = try await commands.waitForClient(of: request.sessionID)
        return .with { ($0.width, $0.height) = (UInt32(size?.width ?? 0), UInt32(size?.height ?? 0)) }
    }

    func joinProcess(_ request: StreamJoinProcessRequest) async throws -> StreamJoinProcessResponse {
        try commands.join(try request.process(), request.sessionID)
        return StreamJoinProcessResponse()
    }

    func deliverOutput(_ request: StreamDeliverOutputRequest) async throws -> StreamDeliverOutputResponse {
        try await commands.deliver(request)
        return StreamDeliverOutputResponse()
    }

    func prepareAttach(_ request: StreamPrepareAttachRequest) async throws -> StreamPreparedSession {
        let streams = try StreamSet(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.terminal)
        let endpoint = try guests.admit(try request.endpoint())
        return try prepared(
            .attach(
                AttachRequest(
                    containerID: request.containerID, address: endpoint.text, streams: streams, endsInput: request.stdinOnce,
                    pod: request.hasConsole ? request.console.sandboxID : request.hasConmon ? request.conmon.sandboxID : nil)))
    }

    func preparePortForward(_ request: StreamPreparePortForwardRequest) async throws -> StreamPreparedSession {
        let sandbox = request.hasNetwork ? request.network.sandboxID : request.guest.sandboxID
        let forward = try PortForwardRequest(
            sandboxID: sandbox, address: try guests.admit(try request.endpoint()).text, ports: request.ports.map { Int32(clamping: $0) },
            pod: request.hasNetwork ? sandbox : nil)
        return try prepared(.portForward(forward))
    }

    private func prepared(_ request: StreamRequest) throws -> StreamPreparedSession {
        let url = try sessions.server().url(for: request)
        return .with { $0.url = url }
    }

    // MARK: Logs

    func openLog(_ request: StreamOpenLogRequest) async throws -> StreamOpenLogResponse {
        let target = request.target
        if target.isWritten { try await written.open(target) } else { try await logs.open(target) }
        return StreamOpenLogResponse()
    }

    func followLog(_ request: StreamFollowLogRequest) async throws -> StreamFollowLogResponse {
        guard !written.contains(request.containerID) else {
            try written.follow(request.containerID)
            return StreamFollowLogResponse()
        }
        try logs.follow(request.containerID, from: try guests.admit(try request.endpoint()))
        return StreamFollowLogResponse()
    }

    func reopenLog(_ request: StreamReopenLogRequest) async throws -> StreamReopenLogResponse {
        try await logs.reopen(request.containerID)
        return StreamReopenLogResponse()
    }

    func waitForLog(_ request: StreamWaitForLogRequest) async throws -> StreamWaitForLogResponse {
        guard !written.contains(request.containerID) else {
            try await written.drained(request.containerID)
            return StreamWaitForLogResponse()
        }
        try await logs.drained(request.containerID, liftingBudget: request.liftBudget, hasEnded: request.hasEnded_p)
        return StreamWaitForLogResponse()
    }

    func closeLog(_ request: StreamCloseLogRequest) async throws -> StreamCloseLogResponse {
        await written.close(request.containerID, forget: request.forget)
        if request.forget { await logs.remove(request.containerID) } else { logs.close(request.containerID) }
        return StreamCloseLogResponse()
    }

    func keepLogs(_ request: StreamKeepLogsRequest) async throws -> StreamKeepLogsResponse {
        await written.keep(only: Set(request.containerIds), forget: request.forget)
        await logs.keep(only: Set(request.containerIds), forget: request.forget)
        return StreamKeepLogsResponse()
    }
}
