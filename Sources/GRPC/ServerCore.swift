import CGRPC
import Errors
import Logging
import Synchronization

/// The C core's server with its completion queue, and the count of calls that decides when both may go.
///
/// `@unchecked`: the core's server is thread-safe and its pointer never changes; `life` guards the rest.
final class ServerCore: QueuedObject, @unchecked Sendable {
    /// Calls that may wait in the core to be picked up; each arrival fills its slot again.
    private static let slots = 64

    fileprivate struct Life {
        var calls = 0
        var stopped = false
        var queueClosed = false
        var ended = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    let methods: MethodTable
    let server: OpaquePointer
    let queue: CompletionQueue
    private let maximumMessageBytes: Int
    private let logger: Logger
    private let errorStatus: @Sendable (any Error) -> GRPCStatus
    private let life = Mutex(Life())

    init(
        methods: MethodTable, maximumMessageBytes: Int, logger: Logger, errorStatus: @escaping @Sendable (any Error) -> GRPCStatus
    ) {
        self.methods = methods
        self.maximumMessageBytes = maximumMessageBytes
        self.logger = logger
        self.errorStatus = errorStatus
        Core.start()
        let arguments = localArguments(maximumMessageBytes: maximumMessageBytes).merging([
            // A second server must not share a port silently.
            "grpc.so_reuseport": 0,
            // A client may ping as it likes (grpc-go does on cancels); none loses its connection for it.
            "grpc.http2.max_ping_strikes": 0,
            "grpc.http2.min_ping_interval_without_data_ms": 0,
            // A connection without a handshake, or with garbage, is dropped after this.
            "grpc.server_handshake_timeout_ms": 20_000,
        ]) { _, own in own }
        guard let server = withArguments(integers: arguments, { grpc_server_create($0, nil) }) else {
            fatalError("gRPC: the server cannot be created")
        }
        self.server = server
        // One thread: it only hands over, and a second one measured no faster.
        // The pointer is the server's own and freed once, by the queue's last thread.
        nonisolated(unsafe) let owned = server
        queue = CompletionQueue(name: "grpc-server", threads: 1) { grpc_server_destroy(owned) }
        super.init()
        grpc_server_register_completion_queue(server, queue.pointer, nil)
    }

    /// Returns the bound port (1 for unix sockets).
    func bind(_ endpoint: Endpoint) throws -> Int {
        let credentials = grpc_insecure_server_credentials_create()
        defer { grpc_server_credentials_release(credentials) }
        let port = grpc_server_add_http2_port(server, endpoint.listenAddress, credentials)
        guard port > 0 else {
            throw SwiftletError(
                .unavailable, "listening on \(endpoint): the address cannot be bound; is it in use, or not an address of this host?")
        }
        return Int(port)
    }

    func start() {
        grpc_server_start(server)
        for _ in 0..<Self.slots { fillSlot() }
    }

    func fillSlot() {
        ServerCall(core: self).await()
    }

    // What a call asks of its server

    /// The status that refuses a reply of `count` bytes, if it is too large.
    func refusal(ofReply count: Int) -> GRPCStatus? {
        guard count > maximumMessageBytes else { return nil }
        return GRPCStatus(.resourceExhausted, "the reply has \(count) bytes; at most \(maximumMessageBytes) can be sent")
    }

    func status(of error: any Error, method: String) -> GRPCStatus {
        if let status = error as? GRPCStatus { return status }
        let status = errorStatus(error)
        logger.debug("call failed", metadata: ["method": "\(method)", "status": "\(status)"])
        return status
    }

    // The end

    func callCreated() {
        life.withLock { $0.calls += 1 }
    }

    func callReleased() {
        endIfDone { $0.calls -= 1 }
    }

    func beginShutdown() {
        grpc_server_shutdown_and_notify(server, queue.pointer, tag(0))
    }

    override func completed(_ kind: Int, ok: Bool) {
        endIfDone { $0.stopped = true }
    }

    func cancelCalls() {
        // With the lock held, the queue's thread cannot destroy the server meanwhile.
        life.withLock { life in
            if !life.queueClosed { grpc_server_cancel_all_calls(server) }
        }
    }

    func giveUpWaiting() {
        logger.error("calls did not end although they were cancelled; not waiting for them any longer")
        life.withLock { $0.finish() }.forEach { $0.resume() }
    }

    /// Suspends until the last call has ended after `beginShutdown`.
    func ended() async {
        await withCheckedContinuation { continuation in
            let already = life.withLock { life in
                if !life.ended { life.waiters.append(continuation) }
                return life.ended
            }
            if already { continuation.resume() }
        }
    }

    private func endIfDone(_ change: (inout Life) -> Void) {
        let (close, waiters) = life.withLock { life -> (Bool, [CheckedContinuation<Void, Never>]) in
            change(&life)
            guard life.stopped, life.calls == 0, !life.queueClosed else { return (false, []) }
            life.queueClosed = true
            return (true, life.finish())
        }
        if close { queue.shutdown() }
        waiters.forEach { $0.resume() }
    }
}

extension ServerCore.Life {
    fileprivate mutating func finish() -> [CheckedContinuation<Void, Never>] {
        ended = true
        defer { waiters = [] }
        return waiters
    }
}
