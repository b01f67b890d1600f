import CGRPC
import Synchronization

/// A gRPC client (HTTP/2 without TLS) for one endpoint. It connects on the first call, shares the
/// connection among all calls, and connects again after a loss.
public final class GRPCClient: Sendable {
    private let core: ClientCore

    /// - Parameter maximumMessageBytes: largest request sent and reply accepted; larger ones end in
    ///   `resourceExhausted`.
    public init(endpoint: Endpoint, maximumMessageBytes: Int = 16 * 1024 * 1024) {
        core = ClientCore(endpoint: endpoint, maximumMessageBytes: maximumMessageBytes)
    }

    deinit {
        core.close()
    }

    /// Makes one call and returns its reply. Cancelling the task cancels the call.
    ///
    /// - Parameters:
    ///   - path: `/package.Service/Method`.
    ///   - timeout: sent to the server as the call's deadline; nil waits for ever.
    ///   - metadata: keys in lower case; values of keys ending in `-bin` are base64.
    /// - Throws: `GRPCStatus`; `unavailable` at once when nobody listens.
    public func unary(
        _ path: String, _ request: [UInt8], timeout: Duration? = nil, metadata: [(String, String)] = []
    ) async throws -> [UInt8] {
        let call = try UnaryClientCall(core: core, path: path, timeout: timeout, metadata: metadata)
        defer { withExtendedLifetime(self) {} }
        return try await withTaskCancellationHandler {
            try await call.reply(to: request)
        } onCancel: {
            call.cancel()
        }
    }

    /// Starts a call whose replies are read one by one as they are asked for, so a slow reader slows
    /// the server. The call is cancelled when the reading task is, or when the stream is let go.
    ///
    /// - Throws: the stream throws `GRPCStatus`; parameters as for `unary`.
    public func serverStreaming(
        _ path: String, _ request: [UInt8], timeout: Duration? = nil, metadata: [(String, String)] = []
    ) -> AsyncThrowingStream<[UInt8], any Error> {
        do {
            let reader = try StreamReader(
                client: self, call: StreamingClientCall(core: core, path: path, timeout: timeout, metadata: metadata, request: request))
            return AsyncThrowingStream { try await reader.next() }
        } catch {
            return AsyncThrowingStream { throw error }
        }
    }

    /// Cancels the calls under way and returns when they have ended; the connection goes when no
    /// stream is held any longer. Later calls fail with `unavailable`.
    public func close() async {
        core.close()
        await core.ended()
    }
}

/// Cancels the call of a stream nobody reads any longer, and keeps the client alive until then.
private final class StreamReader: Sendable {
    private let client: GRPCClient
    private let call: StreamingClientCall

    init(client: GRPCClient, call: StreamingClientCall) {
        self.client = client
        self.call = call
    }

    deinit {
        call.cancel()
    }

    func next() async throws -> [UInt8]? {
        try await withTaskCancellationHandler {
            try await call.next()
        } onCancel: {
            call.cancel()
        }
    }
}

/// The C core's channel with its completion queue and the calls under way.
///
/// `@unchecked`: the channel is thread-safe and its pointer never changes; `life` guards the rest.
final class ClientCore: @unchecked Sendable {
    private struct Life {
        var calls: [ObjectIdentifier: ClientCall] = [:]
        /// Calls alive, including those that have ended but are still referred to.
        var count = 0
        var closed = false
        var released = false
        var waiters: [CheckedContinuation<Void, Never>] = []

        /// Who waits for the last call's end, once it has come.
        mutating func takeWaiters() -> [CheckedContinuation<Void, Never>] {
            guard closed, calls.isEmpty else { return [] }
            defer { waiters = [] }
            return waiters
        }
    }

    let endpoint: Endpoint
    let channel: OpaquePointer
    let queue: CompletionQueue
    let maximumMessageBytes: Int
    private let life = Mutex(Life())

    init(endpoint: Endpoint, maximumMessageBytes: Int) {
        self.endpoint = endpoint
        self.maximumMessageBytes = maximumMessageBytes
        Core.start()
        let integers = localArguments(maximumMessageBytes: maximumMessageBytes).merging([
            // Methods need not be idempotent.
            "grpc.enable_retries": 0,
            "grpc.enable_http_proxy": 0,
            "grpc.service_config_disable_resolution": 1,
            "grpc.use_local_subchannel_pool": 1,
            // A daemon that was restarted is found again quickly.
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.max_reconnect_backoff_ms": 1000,
        ]) { _, own in own }
        var strings: [String: String] = [:]
        // grpc-go refuses a percent-encoded path as :authority.
        if case .unix = endpoint { strings["grpc.default_authority"] = "localhost" }
        let credentials = grpc_insecure_credentials_create()
        defer { grpc_channel_credentials_release(credentials) }
        let channel = withArguments(integers: integers, strings: strings) { grpc_channel_create(endpoint.target, credentials, $0) }
        guard let channel else { fatalError("gRPC: the channel cannot be created") }
        self.channel = channel
        queue = CompletionQueue(name: "grpc-client", threads: 1) {}
    }

    func closedStatus() -> GRPCStatus { GRPCStatus(.unavailable, "the client of \(endpoint) has been closed") }

    /// Counts a call in before anything of the core is touched on its behalf.
    func reserve() -> Bool {
        life.withLock { life in
            if !life.closed { life.count += 1 }
            return !life.closed
        }
    }

    /// Makes a call one that `close` cancels; false when that has happened already.
    func register(_ call: ClientCall) -> Bool {
        life.withLock { life in
            if !life.closed { life.calls[ObjectIdentifier(call)] = call }
            return !life.closed
        }
    }

    func callEnded(_ call: ClientCall) {
        let waiters = life.withLock { life in
            life.calls[ObjectIdentifier(call)] = nil
            return life.takeWaiters()
        }
        waiters.forEach { $0.resume() }
    }

    func callReleased() {
        life.withLock { life in
            life.count -= 1
            releaseIfDone(&life)
        }
    }

    func close() {
        let calls = life.withLock { life in
            life.closed = true
            releaseIfDone(&life)
            return Array(life.calls.values)
        }
        calls.forEach { $0.cancel() }
    }

    /// Suspends until the last call has ended after `close`.
    func ended() async {
        await withCheckedContinuation { continuation in
            let waiters = life.withLock { life in
                life.waiters.append(continuation)
                return life.takeWaiters()
            }
            waiters.forEach { $0.resume() }
        }
    }

    /// The channel and the queue stay for as long as something could still use them.
    private func releaseIfDone(_ life: inout Life) {
        guard life.closed, life.count == 0, !life.released else { return }
        life.released = true
        grpc_channel_destroy(channel)
        queue.shutdown()
    }
}
