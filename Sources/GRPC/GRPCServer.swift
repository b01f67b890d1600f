import CGRPC
import Errors
import Glibc
import Logging
import Synchronization

/// A gRPC server (HTTP/2 without TLS) on unix sockets and TCP ports.
///
/// Handlers are found in a method table. The standard health service answers `Check` and `Watch`
/// for every service of the table. Once created, a server holds threads until `shutdown`.
public final class GRPCServer: Sendable {
    private enum Phase {
        case configured
        case serving
        case stopping
    }

    private struct State {
        var phase = Phase.configured
        var sockets: [ServerSocket] = []
    }

    private let core: ServerCore
    private let health: HealthService
    private let state = Mutex(State())

    /// - Parameters:
    ///   - methods: what the server answers; the health service is added to it.
    ///   - maximumMessageBytes: largest request accepted and reply sent; larger ones end in
    ///     `resourceExhausted`. The default is what the kubelet allows (16 MiB).
    ///   - errorStatus: the answer for errors of handlers that are not a `GRPCStatus`.
    public init(
        methods: MethodTable,
        logger: Logger,
        maximumMessageBytes: Int = 16 * 1024 * 1024,
        errorStatus: @escaping @Sendable (any Error) -> GRPCStatus = GRPCServer.defaultStatus
    ) {
        health = HealthService(services: methods.services)
        var methods = methods
        health.register(in: &methods)
        core = ServerCore(methods: methods, maximumMessageBytes: maximumMessageBytes, logger: logger, errorStatus: errorStatus)
    }

    /// `SwiftletError` by its code, `CancellationError` as `cancelled`, the rest as `unknown`.
    public static let defaultStatus: @Sendable (any Error) -> GRPCStatus = { error in
        switch error {
        case let error as SwiftletError: GRPCStatus(GRPCStatus.Code(error.code), error.description)
        case is CancellationError: GRPCStatus(.cancelled, "cancelled")
        default: GRPCStatus(.unknown, oneLine("\(error)"))
        }
    }

    /// Binds `endpoint`; connections are taken from `start` on. May be called several times before `start`.
    ///
    /// A socket file that nobody listens on is replaced.
    /// - Parameter mode: permissions of a unix socket.
    /// - Returns: the endpoint with the port the kernel chose where port 0 was asked for.
    /// - Throws: `SwiftletError` `alreadyExists` when another process listens there, `failedPrecondition`
    ///   when a file that is no socket is in the way or the directory is missing, `unavailable` when
    ///   the address cannot be bound.
    @discardableResult
    public func listen(on endpoint: Endpoint, mode: mode_t = 0o660) throws -> Endpoint {
        try state.withLock { state in
            guard state.phase == .configured else {
                throw SwiftletError(.failedPrecondition, "listening on \(endpoint): the server has been started already")
            }
            switch endpoint {
            case .unix(let path):
                let socket = ServerSocket(path: path)
                try socket.clearTheWay()
                _ = try core.bind(endpoint)
                try socket.adopt(mode: mode)
                state.sockets.append(socket)
                return endpoint
            case .tcp(let host, _):
                return .tcp(host: host, port: try core.bind(endpoint))
            }
        }
    }

    /// Starts answering calls. Calling it again changes nothing.
    public func start() {
        state.withLock { state in
            guard state.phase == .configured else { return }
            state.phase = .serving
            core.start()
        }
    }

    /// Says for health checks whether `service` can serve; `""` is the server as a whole. All of the
    /// table's services serve from the beginning.
    public func setHealth(service: String, serving: Bool) {
        health.set(service, serving ? .serving : .notServing)
    }

    /// Takes no new calls and removes the sockets at once, lets the running calls end within `grace`,
    /// then cancels them. Returns when all have ended. Not shortened by cancelling the caller's task.
    ///
    /// - Parameter patience: how long to wait, after the cancelling, for handlers that do not heed it;
    ///   one that ends later still ends safely.
    public func shutdown(grace: Duration, patience: Duration = .seconds(5)) async {
        let sockets = state.withLock { [core] state -> [ServerSocket] in
            let first = state.phase != .stopping
            state.phase = .stopping
            defer { state.sockets = [] }
            if first { core.beginShutdown() }
            return state.sockets
        }
        health.shutDown()
        let enforcement = Task.detached { [core] in
            try await Task.sleep(for: grace)
            core.cancelCalls()
            try await Task.sleep(for: patience)
            core.giveUpWaiting()
        }
        await core.ended()
        enforcement.cancel()
        for socket in sockets { socket.remove() }
    }
}

extension GRPCStatus.Code {
    /// The gRPC code of the same name.
    public init(_ code: SwiftletError.Code) {
        self =
            switch code {
            case .cancelled: .cancelled
            case .unknown: .unknown
            case .invalidArgument: .invalidArgument
            case .deadlineExceeded: .deadlineExceeded
            case .notFound: .notFound
            case .alreadyExists: .alreadyExists
            case .permissionDenied: .permissionDenied
            case .resourceExhausted: .resourceExhausted
            case .failedPrecondition: .failedPrecondition
            case .aborted: .aborted
            case .outOfRange: .outOfRange
            case .unimplemented: .unimplemented
            case .internal: .internal
            case .unavailable: .unavailable
            case .dataLoss: .dataLoss
            case .unauthenticated: .unauthenticated
            }
    }
}
