import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import SwiftProtobuf
import TTRPC

/// swiftletd's end of the control protocol, on one connection. One that is lost stays so; make a new one.
public final class StreamControlClient: Sendable {
    private static let loop = Result { try EventLoop(name: "streamd") }

    private let connection: TTRPCClient
    /// What streamd said of itself when the connection was made.
    public let info: StreamGetInfoResponse

    private init(_ connection: TTRPCClient, _ info: StreamGetInfoResponse) { (self.connection, self.info) = (connection, info) }

    deinit { connection.close() }

    /// - Parameter patience: how long it may take to say what it is.
    /// - Throws: `unavailable` when nobody listens; `deadlineExceeded` when who does says nothing of use.
    public static func connect(to path: String, patience: Duration = .seconds(5)) async throws -> StreamControlClient {
        let loop = try loop.get()
        let descriptor = try open(path)
        let connection = try TTRPCClient(descriptor: descriptor, service: StreamContract.service, server: "swiftlet-streamd", loop: loop)
        do {
            return StreamControlClient(connection, try await call(connection, .getInfo, StreamGetInfoRequest(), timeout: patience))
        } catch {
            let code: SwiftletError.Code = connection.isClosed ? .unavailable : .deadlineExceeded
            connection.close()
            throw SwiftletError(code, "swiftlet-streamd does not answer", cause: error)
        }
    }

    /// The process that listens there, answering or not; nil when nobody does.
    public static func server(of path: String) -> pid_t? {
        guard let descriptor = try? open(path) else { return nil }
        defer { Glibc.close(descriptor) }
        let process = clinux_unix_peer_process(descriptor)
        return process > 0 ? process : nil
    }

    private static func open(_ path: String) throws -> Int32 {
        let descriptor = clinux_unix_socket()
        guard descriptor >= 0 else { throw SwiftletError.system("connect to \(path)") }
        // A unix socket connects at once or not at all.
        guard clinux_unix_connect(descriptor, path) == 0 else {
            let error = SwiftletError.system("connect to \(path)")
            Glibc.close(descriptor)
            throw SwiftletError(.unavailable, "swiftlet-streamd does not listen", cause: error)
        }
        return descriptor
    }

    /// - Parameter timeout: nil waits for as long as the connection stands.
    /// - Throws: streamd's code and message; `.unavailable` when the connection is lost, `.deadlineExceeded`, `.cancelled`.
    public func call<Request: Message, Response: Message>(
        _ method: StreamMethod<Request, Response>, _ request: Request, timeout: Duration?
    ) async throws -> Response {
        try await Self.call(connection, method, request, timeout: timeout)
    }

    private static func call<Request: Message, Response: Message>(
        _ connection: TTRPCClient, _ method: StreamMethod<Request, Response>, _ request: Request, timeout: Duration?
    ) async throws -> Response {
        let answer = try await connection.call(method.id.rawValue, try request.serializedBytes(), timeout: timeout)
        return try Response(serializedBytes: answer)
    }

    /// - Throws: `.unavailable` naming what is missing, for a streamd of an older release.
    func require(_ feature: String, _ consequence: String) throws {
        guard info.features.contains(feature) else {
            throw SwiftletError(
                .unavailable, "\(consequence): swiftlet-streamd is of an older release; end it when its sessions may end")
        }
    }

    public var isClosed: Bool { connection.isClosed }

    /// Runs once when the connection is lost or closed; at once if it already is.
    public func onClose(_ listener: @escaping @Sendable () -> Void) { _ = connection.onClose(listener) }

    public func close() { connection.close() }
}
