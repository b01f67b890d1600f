import AgentProtocol
import Errors
import SwiftProtobuf
import TTRPC

/// How one method of the contract is served.
struct MethodRoute: Sendable {
    let method: AgentMethodName
    /// Runs a call and answers once, now or later, on any thread.
    let run: @Sendable (_ request: TTRPCRequest, _ caller: ObjectIdentifier, _ complete: @escaping AgentService.Completion) -> Void
}

extension AgentService {
    typealias Answer<Response> = @Sendable (Result<Response, SwiftletError>) -> Void

    /// Runs a call and answers once, now or later, on any thread.
    ///
    /// - Parameter caller: for ``callerLost(_:)``.
    func handle(_ request: TTRPCRequest, caller: ObjectIdentifier, _ complete: @escaping Completion) {
        guard request.service == AgentContract.service else {
            return complete(.failure(SwiftletError(.unimplemented, "no service \(printable(request.service))")))
        }
        guard let method = AgentMethodName(rawValue: request.method) else {
            return complete(.failure(SwiftletError(.unimplemented, "no method \(printable(request.method))")))
        }
        guard dependencies.guest == nil || Self.methodsOfGuests.contains(method) else {
            return complete(.failure(SwiftletError(.unimplemented, "\(request.method): this guest is not the agent's own")))
        }
        route(method).run(request, caller, complete)
    }

    /// The table of methods. Those that only look at memory answer on the event loop at once; those that may block run on the worker
    /// pool.
    func route(_ method: AgentMethodName) -> MethodRoute {
        switch method {
        case .getInfo: answer(.getInfo) { _ in self.info() }
        case .prepare: workLater(.prepare, enter: requireUnused, prepare)
        case .startSandbox: work(.startSandbox, startSandbox)
        case .createContainer: workLater(.createContainer, enter: reserveContainer, createContainer)
        case .startContainer: work(.startContainer, startContainer)
        case .deleteContainer: work(.deleteContainer, deleteContainer)
        case .exec: work(.exec, enter: enterProcess, exec)
        case .signal: work(.signal, signal)
        case .wait: answerLater(.wait, wait)
        case .deleteProcess: work(.deleteProcess, deleteProcess)
        case .list: answer(.list) { _ in self.list() }
        case .openStream: answer(.openStream, openStream)
        case .openPort: work(.openPort, openPort)
        case .resizeTerminal: answer(.resizeTerminal, resizeTerminal)
        case .getStats: work(.getStats, getStats)
        case .setTime: answer(.setTime, setTime)
        case .updateContainer: work(.updateContainer, updateContainer)
        case .grow: work(.grow, grow)
        case .shutdown: work(.shutdown, shutdown)
        }
    }

    private func answer<Request: Message, Response: Message>(
        _ method: AgentMethod<Request, Response>, _ body: @escaping @Sendable (Request) throws(SwiftletError) -> Response
    ) -> MethodRoute {
        MethodRoute(method: method.id) { request, _, complete in complete(Self.run(request, body)) }
    }

    /// For answers that come with an event.
    private func answerLater<Request: Message, Response: Message>(
        _ method: AgentMethod<Request, Response>,
        _ body: @escaping @Sendable (Request, _ caller: ObjectIdentifier, @escaping Answer<Response>) throws(SwiftletError) -> Void
    ) -> MethodRoute {
        MethodRoute(method: method.id) { request, caller, complete in
            do throws(SwiftletError) {
                try body(Self.decode(request), caller) { complete(Self.encoded($0)) }
            } catch {
                complete(.failure(error))
            }
        }
    }

    private func work<Request: Message, Response: Message>(
        _ method: AgentMethod<Request, Response>, _ body: @escaping @Sendable (Request) throws(SwiftletError) -> Response
    ) -> MethodRoute {
        MethodRoute(method: method.id) { [workers] request, _, complete in
            workers.run { complete(Self.run(request, body)) }
        }
    }

    /// As ``work(_:_:)``, with a first part that runs at once: a later call on the same connection, such as the delete of a host that
    /// gave up, finds what it has entered.
    private func work<Request: Message & Sendable, Entered: Sendable, Response: Message>(
        _ method: AgentMethod<Request, Response>, enter: @escaping @Sendable (Request) throws(SwiftletError) -> Entered,
        _ body: @escaping @Sendable (Request, Entered) throws(SwiftletError) -> Response
    ) -> MethodRoute {
        workLater(method, enter: enter) { request, entered, complete in
            complete(Result { () throws(SwiftletError) in try body(request, entered) })
        }
    }

    /// As ``work(_:enter:_:)``, for work that has to wait without a thread in the middle.
    private func workLater<Request: Message & Sendable, Entered: Sendable, Response: Message>(
        _ method: AgentMethod<Request, Response>, enter: @escaping @Sendable (Request) throws(SwiftletError) -> Entered,
        _ body: @escaping @Sendable (Request, Entered, @escaping Answer<Response>) -> Void
    ) -> MethodRoute {
        MethodRoute(method: method.id) { [workers] request, _, complete in
            do throws(SwiftletError) {
                let decoded: Request = try Self.decode(request)
                let entered = try enter(decoded)
                workers.run { body(decoded, entered) { complete(Self.encoded($0)) } }
            } catch {
                complete(.failure(error))
            }
        }
    }

    private static func run<Request: Message, Response: Message>(
        _ request: TTRPCRequest, _ body: (Request) throws(SwiftletError) -> Response
    ) -> Result<[UInt8], SwiftletError> {
        encoded(Result { () throws(SwiftletError) in try body(decode(request)) })
    }

    private static func decode<Request: Message>(_ request: TTRPCRequest) throws(SwiftletError) -> Request {
        do {
            return try Request(serializedBytes: request.payload)
        } catch {
            throw SwiftletError(.invalidArgument, "\(request.method): the request is malformed", cause: error)
        }
    }

    private static func encoded(_ result: Result<some Message, SwiftletError>) -> Result<[UInt8], SwiftletError> {
        result.flatMap { response in
            // Only messages of proto2 with required fields fail.
            Result { try response.serializedBytes() }.mapError { SwiftletError(.internal, "the answer cannot be encoded", cause: $0) }
        }
    }
}
