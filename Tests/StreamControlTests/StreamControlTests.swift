import Errors
import Foundation
import Glibc
import Linux
import Runtime
import Support
import Synchronization
import TTRPC
import Testing

@testable import StreamControl

/// Both ends of the control protocol on a socket.
@Suite(.timeLimit(.minutes(1))) struct StreamControlTests {
    /// Answers with what it was asked.
    private final class Handler: StreamControlHandler {
        let calls = Mutex<[StreamMethodName]>([])
        let waits = Mutex(0)

        private func note(_ name: StreamMethodName) { calls.withLock { $0.append(name) } }

        func info(_ request: StreamGetInfoRequest) async throws -> StreamGetInfoResponse {
            note(.getInfo)
            return .with { $0.pid = 7 }
        }
        func configure(_ request: StreamConfigureRequest) async throws -> StreamConfigureResponse {
            note(.configure)
            return StreamConfigureResponse()
        }
        func prepareExec(_ request: StreamPrepareExecRequest) async throws -> StreamPreparedSession {
            note(.prepareExec)
            guard request.command != ["refused"] else { throw SwiftletError(.resourceExhausted, "too many") }
            return .with { $0.url = "\(request.guest.proxy) \(request.command.joined(separator: " "))" }
        }
        func prepareAttach(_ request: StreamPrepareAttachRequest) async throws -> StreamPreparedSession {
            note(.prepareAttach)
            return StreamPreparedSession()
        }
        func preparePortForward(_ request: StreamPreparePortForwardRequest) async throws -> StreamPreparedSession {
            note(.preparePortForward)
            return StreamPreparedSession()
        }
        func openLog(_ request: StreamOpenLogRequest) async throws -> StreamOpenLogResponse {
            note(.openLog)
            return StreamOpenLogResponse()
        }
        func followLog(_ request: StreamFollowLogRequest) async throws -> StreamFollowLogResponse {
            note(.followLog)
            return StreamFollowLogResponse()
        }
        func reopenLog(_ request: StreamReopenLogRequest) async throws -> StreamReopenLogResponse {
            note(.reopenLog)
            return StreamReopenLogResponse()
        }
        func waitForLog(_ request: StreamWaitForLogRequest) async throws -> StreamWaitForLogResponse {
            note(.waitForLog)
            guard request.containerID == "lasting" else { return StreamWaitForLogResponse() }
            waits.withLock { $0 += 1 }
            defer { waits.withLock { $0 -= 1 } }
            try await Task.sleep(for: .seconds(3600))
            return StreamWaitForLogResponse()
        }
        func closeLog(_ request: StreamCloseLogRequest) async throws -> StreamCloseLogResponse {
            note(.closeLog)
            return StreamCloseLogResponse()
        }
        func keepLogs(_ request: StreamKeepLogsRequest) async throws -> StreamKeepLogsResponse {
            note(.keepLogs)
            return StreamKeepLogsResponse()
        }
        func awaitSession(_ request: StreamAwaitSessionRequest) async throws -> StreamAwaitSessionResponse {
            note(.awaitSession)
            return StreamAwaitSessionResponse()
        }
        func joinProcess(_ request: StreamJoinProcessRequest) async throws -> StreamJoinProcessResponse {
            note(.joinProcess)
            return StreamJoinProcessResponse()
        }
        func deliverOutput(_ request: StreamDeliverOutputRequest) async throws -> StreamDeliverOutputResponse {
            note(.deliverOutput)
            return StreamDeliverOutputResponse()
        }
    }

    private static func withServer(_ body: (Handler, StreamControlServer, String) async throws -> Void) async throws {
        let path = NSTemporaryDirectory() + "control-\(UInt32.random(in: 0 ... .max))"
        let handler = Handler()
        let server = try StreamControlServer(path: path, handler: handler)
        try await body(handler, server, path)
        server.stop()
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func everyMethodReachesItsOwnFunction() async throws {
        try await Self.withServer { handler, _, path in
            let client = try await StreamControlClient.connect(to: path)
            #expect(client.info.pid == 7)
            let exec = StreamPrepareExecRequest.with {
                $0.guest = StreamGuest(.unixProxy(path: "/vsock"), sandbox: "s")
                $0.command = ["a", "b"]
            }
            #expect(try await client.call(.prepareExec, exec, timeout: .seconds(5)).url == "/vsock a b")
            _ = try await client.call(.prepareAttach, StreamPrepareAttachRequest(), timeout: .seconds(5))
            _ = try await client.call(.preparePortForward, StreamPreparePortForwardRequest(), timeout: .seconds(5))
            _ = try await client.call(.openLog, StreamOpenLogRequest(), timeout: .seconds(5))
            _ = try await client.call(.followLog, StreamFollowLogRequest(), timeout: .seconds(5))
            _ = try await client.call(.reopenLog, StreamReopenLogRequest(), timeout: .seconds(5))
            _ = try await client.call(.waitForLog, StreamWaitForLogRequest(), timeout: .seconds(5))
            _ = try await client.call(.closeLog, StreamCloseLogRequest(), timeout: .seconds(5))
            _ = try await client.call(.keepLogs, StreamKeepLogsRequest(), timeout: .seconds(5))
            _ = try await client.call(.configure, StreamConfigureRequest(), timeout: .seconds(5))
            _ = try await client.call(.awaitSession, StreamAwaitSessionRequest(), timeout: .seconds(5))
            _ = try await client.call(.deliverOutput, StreamDeliverOutputRequest(), timeout: .seconds(5))
            _ = try await client.call(.joinProcess, StreamJoinProcessRequest(), timeout: .seconds(5))
            #expect(handler.calls.withLock { $0 } == StreamMethodName.allCases)
            client.close()
        }
    }

    @Test func errorsKeepTheirCodesAndWhatIsUnknownIsNamed() async throws {
        try await Self.withServer { _, _, path in
            let client = try await StreamControlClient.connect(to: path)
            let refused = await #expect(throws: SwiftletError.self) {
                _ = try await client.call(.prepareExec, .with { $0.command = ["refused"] }, timeout: .seconds(5))
            }
            #expect(refused?.code == .resourceExhausted && refused.map { "\($0)" }?.contains("too many") == true)
            client.close()
            let service = StreamControlService(handler: Handler())
            for (name, method, payload, code) in [
                ("other", "GetInfo", [], SwiftletError.Code.unimplemented), (StreamContract.service, "Other", [], .unimplemented),
                (StreamContract.service, "OpenLog", [0xFF], .invalidArgument),
            ] as [(String, String, [UInt8], SwiftletError.Code)] {
                let answer = await withCheckedContinuation { continuation in
                    let request = TTRPCRequest(service: name, method: method, payload: payload)
                    service.handle(request, caller: ObjectIdentifier(service)) { continuation.resume(returning: $0) }
                }
                guard case .failure(let error) = answer else {
                    Issue.record("\(method) of \(name) was answered")
                    continue
                }
                #expect(error.code == code)
            }
        }
    }

    @Test func aCallersCallsEndWithItsConnection() async throws {
        try await Self.withServer { handler, _, path in
            let client = try await StreamControlClient.connect(to: path)
            let waiting = Task { try await client.call(.waitForLog, .with { $0.containerID = "lasting" }, timeout: nil) }
            try await eventually("it waits") { handler.waits.withLock { $0 } == 1 }
            client.close()
            await #expect(throws: SwiftletError.self) { _ = try await waiting.value }
            try await eventually("nobody waits") { handler.waits.withLock { $0 } == 0 }
        }
    }

    @Test func aSocketThatSomebodyServesIsNotTakenAndOnlyItsUserReachesIt() async throws {
        try await Self.withServer { _, _, path in
            let error = #expect(throws: SwiftletError.self) { _ = try StreamControlServer(path: path, handler: Handler()) }
            #expect(error?.code == .alreadyExists)
            #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
            _ = try await StreamControlClient.connect(to: path)
        }
        await #expect(throws: SwiftletError.self) { _ = try await StreamControlClient.connect(to: "/nonexistent/socket") }
    }

    @Test func loopbackAddressesAreTakenAndOthersWithACertificate() throws {
        #expect(try SessionAddress.checked("", certificate: "", key: "") == nil)
        #expect(try SessionAddress.checked("127.0.0.1:10351", certificate: "", key: "") == SessionAddress(host: "127.0.0.1", port: 10351))
        #expect(try SessionAddress.checked("[::1]:0", certificate: "", key: "") == SessionAddress(host: "::1", port: 0))
        #expect(try SessionAddress.checked("10.0.0.1:80", certificate: "/c", key: "/k") == SessionAddress(host: "10.0.0.1", port: 80))
        for (certificate, key) in [("/c", ""), ("", "/k"), ("c", "/k"), ("/c", "k")] {
            let error = #expect(throws: SwiftletError.self) {
                try SessionAddress.checked("127.0.0.1:80", certificate: certificate, key: key)
            }
            #expect(error?.code == .invalidArgument)
        }
        let error = #expect(throws: SwiftletError.self) { try SessionAddress.checked("10.0.0.1:80", certificate: "", key: "") }
        #expect(error?.code == .invalidArgument && error.map { "\($0)" }?.contains("certificate") == true)
    }

    @Test(arguments: ["127.0.0.1", "localhost:80", "127.0.0.1:65536", "127.0.0.1:-1", "0.0.0.0:80", "224.0.0.1:80", "[::]:80"])
    func otherAddressesAreRefused(text: String) {
        let error = #expect(throws: SwiftletError.self) { try SessionAddress.checked(text, certificate: "/c", key: "/k") }
        #expect(error?.code == .invalidArgument)
    }
}
