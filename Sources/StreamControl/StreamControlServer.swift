import CLinux
import Errors
import Glibc
import Linux
import SwiftProtobuf
import Synchronization
import TTRPC

/// What swiftlet-streamd does for swiftletd, one function a method of stream.proto.
public protocol StreamControlHandler: Sendable {
    func info(_ request: StreamGetInfoRequest) async throws -> StreamGetInfoResponse
    func configure(_ request: StreamConfigureRequest) async throws -> StreamConfigureResponse
    func prepareExec(_ request: StreamPrepareExecRequest) async throws -> StreamPreparedSession
    func prepareAttach(_ request: StreamPrepareAttachRequest) async throws -> StreamPreparedSession
    func preparePortForward(_ request: StreamPreparePortForwardRequest) async throws -> StreamPreparedSession
    func openLog(_ request: StreamOpenLogRequest) async throws -> StreamOpenLogResponse
    func followLog(_ request: StreamFollowLogRequest) async throws -> StreamFollowLogResponse
    func reopenLog(_ request: StreamReopenLogRequest) async throws -> StreamReopenLogResponse
    func waitForLog(_ request: StreamWaitForLogRequest) async throws -> StreamWaitForLogResponse
    func closeLog(_ request: StreamCloseLogRequest) async throws -> StreamCloseLogResponse
    func keepLogs(_ request: StreamKeepLogsRequest) async throws -> StreamKeepLogsResponse
    func awaitSession(_ request: StreamAwaitSessionRequest) async throws -> StreamAwaitSessionResponse
    func deliverOutput(_ request: StreamDeliverOutputRequest) async throws -> StreamDeliverOutputResponse
    func joinProcess(_ request: StreamJoinProcessRequest) async throws -> StreamJoinProcessResponse
}

/// The control socket of swiftlet-streamd.
public final class StreamControlServer: Sendable {
    /// Made by this process, with what holds others off; nil for a socket that it was given.
    private let own: (path: String, lock: Int32)?
    private let descriptor: Int32
    private let loop: EventLoop
    private let watch: EventLoop.Watch

    /// Listens on a socket that only this process's user can connect to.
    ///
    /// - Throws: `alreadyExists` when somebody listens there already.
    public init(path: String, handler: any StreamControlHandler) throws {
        let step = "listen on \(path)"
        let lock = try Self.lock(path + ".lock", step)
        let descriptor = clinux_unix_socket()
        do {
            guard descriptor >= 0 else { throw SwiftletError.system(step) }
            guard UnixSocket.connectFailure(path: path) != nil else { throw Self.taken(step) }
            unlink(path)
            guard clinux_unix_bind(descriptor, path, 0o600) == 0, listen(descriptor, 16) == 0 else { throw SwiftletError.system(step) }
            (loop, watch) = try Self.serve(descriptor, handler)
        } catch {
            for descriptor in [descriptor, lock] where descriptor >= 0 { close(descriptor) }
            throw error
        }
        (self.descriptor, own) = (descriptor, (path, lock))
    }

    /// Serves a socket that somebody else has made and listens on, such as systemd.
    public init(listening descriptor: Int32, handler: any StreamControlHandler) throws {
        guard fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0, fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else {
            throw SwiftletError.system("serve descriptor \(descriptor)")
        }
        (loop, watch) = try Self.serve(descriptor, handler)
        (self.descriptor, own) = (descriptor, nil)
    }

    private static func serve(_ descriptor: Int32, _ handler: any StreamControlHandler) throws -> (EventLoop, EventLoop.Watch) {
        let loop = try EventLoop(name: "control")
        let server = TTRPCServer(
            service: StreamControlService(handler: handler), loop: loop, limits: TTRPCServer.Limits(connections: 16))
        let listener = try ControlListener(descriptor)
        let watch = try loop.watch(descriptor, .readable) { _ in
            if let connection = listener.accept() { server.accept(connection) }
        }
        return (loop, watch)
    }

    /// Of two processes that begin at once, the second would take away the first one's socket.
    private static func lock(_ path: String, _ step: String) throws -> Int32 {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw SwiftletError.system("open \(path)") }
        let end = ContinuousClock.now + lockPatience
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard .now < end else {
                close(descriptor)
                throw taken(step)
            }
            usleep(5_000)
        }
        return descriptor
    }

    /// A child of the last one that has held it keeps its copy until it executes its program.
    private static let lockPatience = Duration.milliseconds(500)

    private static func taken(_ step: String) -> SwiftletError {
        SwiftletError(.alreadyExists, "\(step): somebody serves it already")
    }

    /// Takes no more connections; those that are there go on.
    public func stop() {
        if let own { unlink(own.path) }
        loop.unwatch(watch, descriptor: descriptor)
        close(descriptor)
        if let own { close(own.lock) }
    }
}

/// With no descriptor left, a spare one makes room to take the next client and send it away: one that stays in the backlog would keep the
/// loop busy. Used on the loop's thread.
private final class ControlListener: Sendable {
    private let descriptor: Int32
    private let spare: Mutex<Int32>

    init(_ descriptor: Int32) throws(SwiftletError) {
        self.descriptor = descriptor
        let spare = Self.open()
        guard spare >= 0 else { throw .system("open /dev/null") }
        self.spare = Mutex(spare)
    }

    deinit { close(spare.withLock { $0 }) }

    func accept() -> Int32? {
        let connection = clinux_unix_accept(descriptor)
        guard connection < 0 else { return connection }
        guard errno == EMFILE || errno == ENFILE else { return nil }
        spare.withLock { spare in
            guard spare >= 0 else { return spare = Self.open() }
            close(spare)
            close(clinux_unix_accept(descriptor))
            spare = Self.open()
        }
        return nil
    }

    private static func open() -> Int32 { Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC) }
}

/// Runs each call in a task of its own, which ends with its caller's connection.
final class StreamControlService: TTRPCService {
    private let handler: any StreamControlHandler
    private let calls = Mutex<[ObjectIdentifier: [UInt64: Task<Void, Never>]]>([:])
    private let number = Atomic<UInt64>(0)

    init(handler: any StreamControlHandler) { self.handler = handler }

    func handle(_ request: TTRPCRequest, caller: ObjectIdentifier, _ complete: @escaping Completion) {
        guard request.service == StreamContract.service else {
            return complete(.failure(SwiftletError(.unimplemented, "no service \(printable(request.service))")))
        }
        guard let method = StreamMethodName(rawValue: request.method) else {
            return complete(.failure(SwiftletError(.unimplemented, "no method \(printable(request.method))")))
        }
        let id = number.wrappingAdd(1, ordering: .relaxed).newValue
        // The table has the task before the task can take itself out.
        calls.withLock { calls in
            calls[caller, default: [:]][id] = Task {
                let result: Result<[UInt8], SwiftletError>
                do {
                    result = .success(try await self.answer(method, request.payload))
                } catch {
                    result = .failure(SwiftletError.wrap(error, request.method))
                }
                self.calls.withLock { _ = $0[caller]?.removeValue(forKey: id) }
                complete(result)
            }
        }
    }

    func callerLost(_ caller: ObjectIdentifier) {
        let tasks = calls.withLock { $0.removeValue(forKey: caller) } ?? [:]
        for task in tasks.values { task.cancel() }
    }

    private func answer(_ method: StreamMethodName, _ payload: [UInt8]) async throws -> [UInt8] {
        switch method {
        case .getInfo: try await run(payload, handler.info)
        case .configure: try await run(payload, handler.configure)
        case .prepareExec: try await run(payload, handler.prepareExec)
        case .prepareAttach: try await run(payload, handler.prepareAttach)
        case .preparePortForward: try await run(payload, handler.preparePortForward)
        case .openLog: try await run(payload, handler.openLog)
        case .followLog: try await run(payload, handler.followLog)
        case .reopenLog: try await run(payload, handler.reopenLog)
        case .waitForLog: try await run(payload, handler.waitForLog)
        case .closeLog: try await run(payload, handler.closeLog)
        case .keepLogs: try await run(payload, handler.keepLogs)
        case .awaitSession: try await run(payload, handler.awaitSession)
        case .deliverOutput: try await run(payload, handler.deliverOutput)
        case .joinProcess: try await run(payload, handler.joinProcess)
        }
    }

    private func run<Request: Message, Response: Message>(
        _ payload: [UInt8], _ body: (Request) async throws -> Response
    ) async throws -> [UInt8] {
        let request: Request
        do {
            request = try Request(serializedBytes: payload)
        } catch {
            throw SwiftletError(.invalidArgument, "the request is malformed", cause: error)
        }
        return try await body(request).serializedBytes()
    }
}
