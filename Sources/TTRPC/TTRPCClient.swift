import Errors
import Linux
import Synchronization

/// The client's end of one ttrpc connection: calls go out, answers come back by stream id.
///
/// The server is not trusted: what it sends is bounded, and what breaks the protocol ends the connection.
public final class TTRPCClient: ByteChannelOwner {
    public typealias Completion = @Sendable (Result<[UInt8], SwiftletError>) -> Void

    private struct Pending {
        var timer: EventLoop.Timer?
        var complete: Completion
    }

    private struct State {
        var calls = TTRPCCalls<Pending>()
        var decoder = TTRPCFrameDecoder()
        var closed = false
        var closeListeners: [UInt64: @Sendable () -> Void] = [:]
        var nextListener: UInt64 = 0
    }

    /// Bytes of calls that may wait for a server that does not read.
    private static let sendQueue = 16 << 20

    private let service: String
    private let server: String
    private let channel: ByteChannel
    private let loop: EventLoop
    private let state = Mutex(State())

    /// Takes over a connected descriptor.
    ///
    /// - Parameters:
    ///   - service: the full name of the proto file's service.
    ///   - server: what errors call the other side: "the guest's agent".
    ///   - mark: of the tenant that answers.
    public init(
        descriptor: Int32, service: String, server: String, loop: EventLoop, mark: CrashMark? = nil
    ) throws(SwiftletError) {
        self.service = service
        self.server = server
        self.loop = loop
        channel = ByteChannel(descriptor: descriptor, loop: loop, mark: mark)
        try channel.open(owner: self)
    }

    deinit { channel.close() }

    /// Sends a call. `complete` runs exactly once, on the loop's thread or on the caller's.
    ///
    /// - Parameter timeout: nil waits for as long as the connection stands.
    /// - Returns: the stream id for ``abandon(_:)``; nil when the call failed at once.
    @discardableResult
    public func begin(_ method: String, _ payload: [UInt8], timeout: Duration?, _ complete: @escaping Completion) -> UInt32? {
        let request = TTRPCRequest(
            service: service, method: method, payload: payload, timeout: timeout?.wholeNanoseconds ?? 0)
        do {
            let encoded = request.encoded
            guard encoded.count <= TTRPCFrame.maximumPayload else {
                throw SwiftletError(.resourceExhausted, "\(method): request of \(encoded.count) bytes is larger than ttrpc allows")
            }
            let stream = try state.withLock { state throws(SwiftletError) -> UInt32 in
                guard channel.queued <= Self.sendQueue else {
                    throw SwiftletError(.resourceExhausted, "\(server) takes no more calls: \(channel.queued) bytes wait for it")
                }
                let stream = try state.calls.begin(Pending(complete: complete))
                let frame = try TTRPCFrame(stream: stream, kind: .request, payload: encoded).encoded()
                // Under the lock, so that stream ids grow on the wire as ttrpc asks.
                channel.write(frame)
                return stream
            }
            if let timeout { expire(stream, method, at: .now + timeout) }
            return stream
        } catch {
            complete(.failure(SwiftletError.wrap(error, method)))
            return nil
        }
    }

    /// Stops waiting for a call: completes it as cancelled unless it already was completed. The server goes on.
    public func abandon(_ stream: UInt32) {
        drop(stream, SwiftletError(.cancelled, "call of \(server) cancelled"))
    }

    public var isClosed: Bool { state.withLock { $0.closed } }

    /// Runs `listener` once when the connection is lost or closed; at once if it already is.
    ///
    /// - Returns: an id for ``removeCloseListener(_:)``.
    public func onClose(_ listener: @escaping @Sendable () -> Void) -> UInt64? {
        let id = state.withLock { state -> UInt64? in
            guard !state.closed else { return nil }
            state.nextListener += 1
            state.closeListeners[state.nextListener] = listener
            return state.nextListener
        }
        if id == nil { listener() }
        return id
    }

    /// Takes the listener out; nil when it has run or is running.
    public func removeCloseListener(_ id: UInt64) -> (@Sendable () -> Void)? {
        state.withLock { $0.closeListeners.removeValue(forKey: id) }
    }

    public func close() {
        channel.close()
        end(SwiftletError(.unavailable, "the connection to \(server) was closed"))
    }

    package func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        state.withLock { $0.decoder.append(bytes) }
        do {
            // One by one: answers in front of a broken frame still count.
            while let (call, response) = try nextAnswer() {
                if let timer = call.timer { loop.cancel(timer) }
                call.complete(response.result)
            }
        } catch {
            channel.close()
            end(error.during("\(server) breaks the protocol"))
        }
    }

    package func channelReceivedEnd(_ channel: ByteChannel) {
        channel.close()
        end(SwiftletError(.unavailable, "\(server) closed the connection"))
    }

    package func channelDrained(_ channel: ByteChannel) {}

    package func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        end(SwiftletError(.unavailable, "the connection to \(server) was lost", cause: error))
    }

    private func nextAnswer() throws(SwiftletError) -> (Pending, TTRPCResponse)? {
        try state.withLock { state throws(SwiftletError) in
            while let frame = try state.decoder.next() {
                if let answer = try state.calls.receive(frame) { return answer }
            }
            return nil
        }
    }

    private func expire(_ stream: UInt32, _ method: String, at deadline: ContinuousClock.Instant) {
        let timer = loop.schedule(at: deadline) { [weak self, server] in
            self?.drop(stream, SwiftletError(.deadlineExceeded, "\(method): \(server) did not answer in time"))
        }
        let isWaiting = state.withLock { $0.calls.update(stream) { $0.timer = timer } }
        if !isWaiting { loop.cancel(timer) }
    }

    private func drop(_ stream: UInt32, _ reason: SwiftletError) {
        guard let call = state.withLock({ $0.calls.abandon(stream) }) else { return }
        if let timer = call.timer { loop.cancel(timer) }
        call.complete(.failure(reason))
    }

    private func end(_ reason: SwiftletError) {
        let (calls, listeners) = state.withLock { state in
            state.closed = true
            defer { state.closeListeners = [:] }
            return (state.calls.close(reason), Array(state.closeListeners.values))
        }
        for call in calls {
            if let timer = call.timer { loop.cancel(timer) }
            call.complete(.failure(reason))
        }
        for listener in listeners { listener() }
    }
}

extension Duration {
    /// At least 1, so that a short timeout does not become ttrpc's "none".
    fileprivate var wholeNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(max(1, min(seconds, Int64(UInt32.max)) * 1_000_000_000 + attoseconds / 1_000_000_000))
    }
}
