import Errors
import Linux
import Synchronization

/// What a ``TTRPCServer`` has for its callers. All methods are called on the server's event loop and must not block.
public protocol TTRPCService: Sendable {
    typealias Completion = @Sendable (Result<[UInt8], SwiftletError>) -> Void

    /// Runs a call and completes once, now or later, on any thread.
    ///
    /// - Parameter caller: for ``callerLost(_:)``.
    func handle(_ request: TTRPCRequest, caller: ObjectIdentifier, _ complete: @escaping Completion)

    /// The caller's connection has ended: what it still waits for is of no use any more.
    func callerLost(_ caller: ObjectIdentifier)
}

/// Serves ttrpc on any number of connections.
public final class TTRPCServer: Sendable {
    /// What callers may use up.
    public struct Limits: Sendable {
        /// Connections at once; more are closed.
        public var connections: Int
        /// Calls in flight on one connection.
        public var calls: Int
        /// Bytes of answers that may wait for a caller that does not read; its connection is closed then.
        public var answerQueue: Int

        public init(connections: Int, calls: Int = 1 << 16, answerQueue: Int = 16 << 20) {
            self.connections = connections
            self.calls = calls
            self.answerQueue = answerQueue
        }
    }

    private let service: any TTRPCService
    private let loop: EventLoop
    private let limits: Limits
    private let connections = Mutex<[ObjectIdentifier: TTRPCServerConnection]>([:])

    public init(service: any TTRPCService, loop: EventLoop, limits: Limits) {
        self.service = service
        self.loop = loop
        self.limits = limits
    }

    /// Takes over a connected socket.
    public func accept(_ descriptor: Int32) {
        let channel = ByteChannel(descriptor: descriptor, loop: loop)
        let connection = TTRPCServerConnection(channel: channel, service: service, limits: limits) { [weak self] id in
            self?.connections.withLock { _ = $0.removeValue(forKey: id) }
        }
        let admitted = connections.withLock { connections in
            guard connections.count < limits.connections else { return false }
            connections[ObjectIdentifier(connection)] = connection
            return true
        }
        // Refused ones close with their channel.
        if admitted { connection.open() }
    }
}

/// One ttrpc connection. A frame that breaks the protocol closes it, and nothing else.
private final class TTRPCServerConnection: ByteChannelOwner {
    private struct State {
        var decoder = TTRPCFrameDecoder()
        var requests: TTRPCRequests
    }

    private let channel: ByteChannel
    private let service: any TTRPCService
    private let answerQueue: Int
    private let ended: @Sendable (ObjectIdentifier) -> Void
    private let state: Mutex<State>

    init(
        channel: ByteChannel, service: any TTRPCService, limits: TTRPCServer.Limits, ended: @escaping @Sendable (ObjectIdentifier) -> Void
    ) {
        self.channel = channel
        self.service = service
        self.ended = ended
        answerQueue = limits.answerQueue
        state = Mutex(State(requests: TTRPCRequests(limit: limits.calls)))
    }

    func open() {
        do { try channel.open(owner: self) } catch { ended(ObjectIdentifier(self)) }
    }

    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        do {
            let actions = try state.withLock { state throws(SwiftletError) in
                var actions: [TTRPCRequests.Action] = []
                state.decoder.append(bytes)
                while let frame = try state.decoder.next() { actions.append(try state.requests.receive(frame)) }
                return actions
            }
            for action in actions { perform(action) }
        } catch {
            channel.close()
        }
    }

    private func perform(_ action: TTRPCRequests.Action) {
        switch action {
        case .refuse(let stream, let error): answer(stream, .failure(error))
        case .run(let stream, let request):
            service.handle(request, caller: ObjectIdentifier(self)) { [weak self] result in
                guard let self else { return }
                answer(stream, result)
                state.withLock { $0.requests.finish(stream) }
            }
        }
    }

    private func answer(_ stream: UInt32, _ result: Result<[UInt8], SwiftletError>) {
        let frame = TTRPCFrame(stream: stream, kind: .response, payload: TTRPCResponse(result).encoded)
        guard let bytes = try? frame.encoded() else {
            return answer(stream, .failure(SwiftletError(.resourceExhausted, "the answer is larger than ttrpc allows")))
        }
        if channel.write(bytes) > answerQueue { channel.close() }
    }

    func channelReceivedEnd(_ channel: ByteChannel) { channel.close() }

    func channelDrained(_ channel: ByteChannel) {}

    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        service.callerLost(ObjectIdentifier(self))
        ended(ObjectIdentifier(self))
    }
}
