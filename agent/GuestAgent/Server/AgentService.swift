import AgentProtocol
import Errors
import Glibc
import Linux
import SwiftProtobuf
import Synchronization

/// The agent's methods, each from its request to its answer.
///
/// Methods that only look at memory run on the event loop at once; those that may block run on the worker pool.
final class AgentService: Sendable {
    typealias Completion = @Sendable (Result<[UInt8], SwiftletError>) -> Void
    typealias MakeContainer = @Sendable (_ id: String, AgentContainerSpec, SandboxEnvironment) throws(SwiftletError) -> any PodContainer

    /// What differs between a guest and a test.
    struct Surroundings: Sendable {
        var makeContainer: MakeContainer
        var startSandbox: @Sendable (AgentStartSandboxRequest) throws(SwiftletError) -> SandboxEnvironment
        var setTime: @Sendable (Int64) throws(SwiftletError) -> Void
        /// Runs after the answer to Shutdown was handed to the kernel.
        var powerOff: @Sendable () -> Void
        var info: @Sendable () -> AgentGetInfoResponse
        var grow: @Sendable (AgentGrowRequest) throws(SwiftletError) -> AgentGrowResponse = { (_) throws(SwiftletError) in
            throw SwiftletError(.unimplemented, "this agent is not in a guest that can grow")
        }
    }

    let surroundings: Surroundings
    let sandbox: SandboxState
    let containers = ContainerTable()
    let streams: StreamServer
    let reaper: Reaper
    let workers: WorkerPool
    let statistics: PodStatistics
    let loop: EventLoop

    init(surroundings: Surroundings, reaper: Reaper, streams: StreamServer, workers: WorkerPool, loop: EventLoop) {
        self.surroundings = surroundings
        self.streams = streams
        self.reaper = reaper
        self.workers = workers
        statistics = PodStatistics(layers: LayerSizes(workers: workers))
        self.loop = loop
        sandbox = SandboxState(start: surroundings.startSandbox)
    }

    /// Runs a call and answers once, now or later, on any thread.
    ///
    /// - Parameter caller: for ``callerLost(_:)``.
    func handle(_ request: TTRPCRequest, caller: ObjectIdentifier, _ complete: @escaping Completion) {
        guard request.service == AgentContract.service else {
            return complete(.failure(SwiftletError(.unimplemented, "no service \(printable(request.service))")))
        }
        switch request.method {
        case "GetInfo": answer(.getInfo, request, complete) { _ in self.info() }
        case "StartSandbox": work(.startSandbox, request, complete, startSandbox)
        case "CreateContainer": work(.createContainer, request, complete, enter: reserveContainer, createContainer)
        case "StartContainer": work(.startContainer, request, complete, startContainer)
        case "DeleteContainer": work(.deleteContainer, request, complete, deleteContainer)
        case "Exec": work(.exec, request, complete, enter: enterProcess, exec)
        case "Signal": work(.signal, request, complete, signal)
        case "Wait": wait(request, caller, complete)
        case "DeleteProcess": work(.deleteProcess, request, complete, deleteProcess)
        case "List": answer(.list, request, complete) { _ in self.list() }
        case "OpenStream": answer(.openStream, request, complete, openStream)
        case "ResizeTerminal": answer(.resizeTerminal, request, complete, resizeTerminal)
        case "GetStats": work(.getStats, request, complete, getStats)
        case "SetTime": answer(.setTime, request, complete, setTime)
        case "UpdateContainer": work(.updateContainer, request, complete, updateContainer)
        case "Grow": work(.grow, request, complete, grow)
        case "Shutdown": work(.shutdown, request, complete, shutdown)
        default: complete(.failure(SwiftletError(.unimplemented, "no method \(printable(request.method))")))
        }
    }

    /// Forgets what a lost connection still waited for.
    func callerLost(_ caller: ObjectIdentifier) {
        for container in containers.all {
            for process in container.processes { process.removeWaiters(of: caller) }
        }
    }

    private func answer<Request: Message, Response: Message>(
        _ method: AgentMethod<Request, Response>, _ request: TTRPCRequest, _ complete: Completion,
        _ body: (Request) throws(SwiftletError) -> Response
    ) {
        complete(Self.run(request, body))
    }

    private func work<Request: Message, Response: Message>(
        _ method: AgentMethod<Request, Response>, _ request: TTRPCRequest, _ complete: @escaping Completion,
        _ body: @escaping @Sendable (Request) throws(SwiftletError) -> Response
    ) {
        workers.run { complete(Self.run(request, body)) }
    }

    /// As ``work(_:_:_:_:)``, with a first part that runs at once: a later call on the same connection, such as the delete of
    /// a host that gave up, finds what it has entered.
    private func work<Request: Message, Entered: Sendable, Response: Message>(
        _ method: AgentMethod<Request, Response>, _ request: TTRPCRequest, _ complete: @escaping Completion,
        enter: (Request) throws(SwiftletError) -> Entered,
        _ body: @escaping @Sendable (Request, Entered) throws(SwiftletError) -> Response
    ) {
        do {
            let decoded: Request = try Self.decode(request)
            let entered = try enter(decoded)
            workers.run {
                complete(Result { () throws(SwiftletError) in try Self.encode(body(decoded, entered)) })
            }
        } catch {
            complete(.failure(error))
        }
    }

    private static func run<Request: Message, Response: Message>(
        _ request: TTRPCRequest, _ body: (Request) throws(SwiftletError) -> Response
    ) -> Result<[UInt8], SwiftletError> {
        do {
            return .success(try encode(body(decode(request))))
        } catch {
            return .failure(error)
        }
    }

    private static func decode<Request: Message>(_ request: TTRPCRequest) throws(SwiftletError) -> Request {
        do {
            return try Request(serializedBytes: request.payload)
        } catch {
            throw SwiftletError(.invalidArgument, "\(request.method): the request is malformed", cause: error)
        }
    }

    private static func encode(_ response: some Message) throws(SwiftletError) -> [UInt8] {
        do {
            return try response.serializedBytes()
        } catch {
            throw SwiftletError(.internal, "the answer cannot be encoded", cause: error)
        }
    }

    private func info() -> AgentGetInfoResponse {
        var info = surroundings.info()
        info.features = [
            AgentFeature.containers, AgentFeature.resumableOutput, AgentFeature.terminal, AgentFeature.userNames,
        ]
        info.sandboxID = sandbox.id
        return info
    }

    private func wait(_ request: TTRPCRequest, _ caller: ObjectIdentifier, _ complete: @escaping Completion) {
        do {
            let wait: AgentWaitRequest = try Self.decode(request)
            let process = try containers.find(wait.containerID).process(wait.processID)
            process.wait(owner: caller) { result in
                complete(result.flatMap { exit in Result { () throws(SwiftletError) in try Self.encode(exit) } })
            }
        } catch {
            complete(.failure(error))
        }
    }
}
