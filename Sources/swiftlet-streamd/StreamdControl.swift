import Errors
import Foundation
import StreamControl
import StreamServer
import SwiftletVersion

/// What swiftletd asks for.
struct StreamdControl: StreamControlHandler {
    let server: StreamServer
    /// As the process was started with.
    let address: String
    let url: String
    let guests: Guests

    func info(_ request: StreamGetInfoRequest) async throws -> StreamGetInfoResponse {
        .with {
            $0.version = swiftletVersion
            $0.url = url
            $0.pid = getpid()
            $0.address = address
        }
    }

    func prepareExec(_ request: StreamPrepareExecRequest) async throws -> StreamPreparedSession {
        let streams = try StreamSet(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.terminal)
        let exec = ExecRequest(
            containerID: request.containerID, address: try guests.admit(request.guest).text, command: request.command, streams: streams)
        return try prepared(.exec(exec))
    }

    func preparePortForward(_ request: StreamPreparePortForwardRequest) async throws -> StreamPreparedSession {
        let forward = try PortForwardRequest(
            sandboxID: request.guest.sandboxID, address: try guests.admit(request.guest).text,
            ports: request.ports.map { Int32(clamping: $0) })
        return try prepared(.portForward(forward))
    }

    private func prepared(_ request: StreamRequest) throws -> StreamPreparedSession {
        let url = try server.url(for: request)
        return .with { $0.url = url }
    }
}
