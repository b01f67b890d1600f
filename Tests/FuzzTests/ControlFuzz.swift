import Dispatch
import Errors
import Foundation
import Glibc
import Logging
import Runtime
import TTRPC

@testable import Logs
@testable import StreamControl
@testable import StreamServer

/// What comes over swiftlet-streamd's control socket: each request as a byte for its method, one of length, and the message.
enum ControlFuzz {
    private static let methods = StreamMethodName.allCases.map(\.rawValue) + ["", "Unknown"]
    private static let mostRequests = 32

    static func control(_ bytes: [UInt8]) {
        let directory = "/dev/shm/swiftlet-fuzz-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        guard mkdir(directory, 0o700) == 0 else { return }
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let service = StreamControlService(handler: Handler(directory: directory))
        var rest = bytes[...]
        for _ in 0..<mostRequests {
            guard let method = rest.popFirst(), let length = rest.popFirst() else { break }
            answer(service, methods[Int(method) % methods.count], Array(rest.prefix(Int(length))))
            rest = rest.dropFirst(Int(length))
        }
        answer(service, StreamMethodName.keepLogs.rawValue, [])
    }

    /// Every request has an answer, and no fault of a caller's is one of the server's.
    private static func answer(_ service: StreamControlService, _ method: String, _ payload: [UInt8]) {
        let answered = DispatchSemaphore(value: 0)
        let request = TTRPCRequest(service: StreamContract.service, method: method, payload: payload)
        service.handle(request, caller: ObjectIdentifier(service)) { result in
            if case .failure(let error) = result { precondition(error.code != .internal && error.code != .unknown, "\(error)") }
            answered.signal()
        }
        // Other tests may keep the threads that answer busy meanwhile.
        precondition(answered.wait(timeout: .now() + 60) == .success, method)
    }

    /// What ends at once.
    private struct NoOutput: OutputReader {
        func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws {
            _ = try await sink.take(Array("line\n".utf8), from: .stdout)
        }
    }

    /// As swiftlet-streamd's, with logs that are dropped, and sessions that nobody comes for.
    private struct Handler: StreamControlHandler {
        let logs: LocalOutput

        init(directory: String) {
            logs = LocalOutput(directory: directory, reader: NoOutput(), logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }) {
                _, _, position in
                precondition(URL(fileURLWithPath: position).standardized.deletingLastPathComponent().path == directory, position)
                return try await ContainerLog.open(location: nil, positionPath: position)
            }
        }

        func info(_ request: StreamGetInfoRequest) async throws -> StreamGetInfoResponse { .with { $0.features = [StreamContract.logs] } }

        func configure(_ request: StreamConfigureRequest) async throws -> StreamConfigureResponse {
            _ = try SessionAddress.checked(request.address, certificate: request.certificate, key: request.key)
            try request.collection.check()
            return StreamConfigureResponse()
        }

        func prepareExec(_ request: StreamPrepareExecRequest) async throws -> StreamPreparedSession {
            let streams = try StreamSet(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.terminal)
            _ = try request.guest.vsockAddress()
            return try prepared(.exec(ExecRequest(containerID: request.containerID, command: request.command, streams: streams)))
        }

        func awaitSession(_ request: StreamAwaitSessionRequest) async throws -> StreamAwaitSessionResponse { StreamAwaitSessionResponse() }

        func deliverOutput(_ request: StreamDeliverOutputRequest) async throws -> StreamDeliverOutputResponse {
            StreamDeliverOutputResponse()
        }

        func joinProcess(_ request: StreamJoinProcessRequest) async throws -> StreamJoinProcessResponse {
            _ = try request.process()
            return StreamJoinProcessResponse()
        }

        func prepareAttach(_ request: StreamPrepareAttachRequest) async throws -> StreamPreparedSession {
            let streams = try StreamSet(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.terminal)
            _ = try request.endpoint()
            return try prepared(.attach(AttachRequest(containerID: request.containerID, streams: streams, endsInput: request.stdinOnce)))
        }

        func preparePortForward(_ request: StreamPreparePortForwardRequest) async throws -> StreamPreparedSession {
            _ = try request.endpoint()
            let ports = request.ports.map { Int32(clamping: $0) }
            let forward = try PortForwardRequest(sandboxID: request.guest.sandboxID, ports: ports)
            precondition(forward.ports.map(UInt32.init) == request.ports)
            return try prepared(.portForward(forward))
        }

        private func prepared(_ request: StreamRequest) throws -> StreamPreparedSession { .with { $0.url = request.subject } }

        func openLog(_ request: StreamOpenLogRequest) async throws -> StreamOpenLogResponse {
            try await logs.open(LogTarget(container: request.containerID, directory: request.directory, path: request.path))
            return StreamOpenLogResponse()
        }

        func followLog(_ request: StreamFollowLogRequest) async throws -> StreamFollowLogResponse {
            try logs.follow(request.containerID, from: try request.endpoint())
            return StreamFollowLogResponse()
        }

        func reopenLog(_ request: StreamReopenLogRequest) async throws -> StreamReopenLogResponse {
            try await logs.reopen(request.containerID)
            return StreamReopenLogResponse()
        }

        func waitForLog(_ request: StreamWaitForLogRequest) async throws -> StreamWaitForLogResponse {
            try await logs.drained(request.containerID, liftingBudget: request.liftBudget, hasEnded: request.hasEnded_p)
            return StreamWaitForLogResponse()
        }

        func closeLog(_ request: StreamCloseLogRequest) async throws -> StreamCloseLogResponse {
            if request.forget { await logs.remove(request.containerID) } else { logs.close(request.containerID) }
            return StreamCloseLogResponse()
        }

        func keepLogs(_ request: StreamKeepLogsRequest) async throws -> StreamKeepLogsResponse {
            await logs.keep(only: Set(request.containerIds), forget: request.forget)
            return StreamKeepLogsResponse()
        }
    }
}
