import AgentProtocol
import Errors
import Glibc
import Linux
import Synchronization

/// Serves ttrpc to the host on any number of connections.
final class ControlServer: Sendable {
    /// A host holds one connection, a restarting one a second; more are old ones that nobody closed.
    private static let connectionLimit = 32

    private let service: AgentService
    private let loop: EventLoop
    private let connections = Mutex<[ObjectIdentifier: ControlConnection]>([:])

    init(service: AgentService, loop: EventLoop) {
        self.service = service
        self.loop = loop
    }

    /// Takes over a connected socket.
    func accept(_ descriptor: Int32) {
        let connection = ControlConnection(channel: ByteChannel(descriptor: descriptor, loop: loop), service: service) { [weak self] id in
            self?.connections.withLock { _ = $0.removeValue(forKey: id) }
        }
        let admitted = connections.withLock { connections in
            guard connections.count < Self.connectionLimit else { return false }
            connections[ObjectIdentifier(connection)] = connection
            return true
        }
        // Refused ones close with their channel.
        if admitted { connection.open() }
    }
}

/// One ttrpc connection. A frame that breaks the protocol closes it, and nothing else.
final class ControlConnection: ByteChannelOwner {
    /// Calls in flight. Most are waits, of which a host has one for every process: they must not keep it from deleting some.
    private static let callLimit = 1 << 16

    private struct State {
        var decoder = TTRPCFrameDecoder()
        var requests = TTRPCRequests(limit: ControlConnection.callLimit)
    }

    /// Answers that may wait for a host that does not read.
    private static let answerQueue = 16 << 20

    private let channel: ByteChannel
    private let service: AgentService
    private let ended: @Sendable (ObjectIdentifier) -> Void
    private let state = Mutex(State())

    init(channel: ByteChannel, service: AgentService, ended: @escaping @Sendable (ObjectIdentifier) -> Void) {
        self.channel = channel
        self.service = service
        self.ended = ended
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
        if channel.write(bytes) > Self.answerQueue { channel.close() }
    }

    func channelReceivedEnd(_ channel: ByteChannel) { channel.close() }

    func channelDrained(_ channel: ByteChannel) {}

    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        service.callerLost(ObjectIdentifier(self))
        ended(ObjectIdentifier(self))
    }
}
