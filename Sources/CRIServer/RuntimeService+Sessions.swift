import CRI
import Errors
import Runtime

extension CRIService {
    @Sendable func exec(_ request: CRIExecRequest) async throws -> CRIExecResponse {
        let streams = SessionStreams(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, terminal: request.tty)
        try Self.check(streams, "Exec")
        let url = try await pods.prepareExec(request.containerID, request.cmd, streams)
        return .with { $0.url = url }
    }

    @Sendable func attach(_ request: CRIAttachRequest) async throws -> CRIAttachResponse {
        let streams = SessionStreams(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, terminal: request.tty)
        try Self.check(streams, "Attach")
        let url = try await pods.prepareAttach(request.containerID, streams)
        return .with { $0.url = url }
    }

    @Sendable func portForward(_ request: CRIPortForwardRequest) async throws -> CRIPortForwardResponse {
        let url = try await pods.preparePortForward(request.podSandboxID, ports: request.port)
        return .with { $0.url = url }
    }

    private static func check(_ streams: SessionStreams, _ method: String) throws {
        guard streams.stdin || streams.stdout || streams.stderr else {
            throw SwiftletError(.invalidArgument, "\(method): none of stdin, stdout and stderr is asked for")
        }
        guard !streams.terminal || !streams.stderr else {
            throw SwiftletError(.invalidArgument, "\(method): stderr is asked for with a terminal, whose output is stdout alone")
        }
    }
}
