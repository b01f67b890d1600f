import Errors
import Synchronization

extension TTRPCClient {
    /// Sends a call and waits for its answer. A caller that is cancelled stops waiting; the server goes on.
    ///
    /// - Parameter timeout: nil waits for as long as the connection stands.
    /// - Throws: the server's code and message; `.deadlineExceeded` after `timeout`; `.unavailable` when the connection is lost;
    ///   `.cancelled`. After the last three the call may still happen.
    public func call(_ method: String, _ payload: [UInt8], timeout: Duration?) async throws -> [UInt8] {
        let call = CancellableCall(self)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                call.start { begin(method, payload, timeout: timeout) { continuation.resume(with: $0) } }
            }
        } onCancel: {
            call.cancel()
        }
    }
}

/// Joins a task's cancellation, which may come first, with the call it is for.
private final class CancellableCall: Sendable {
    private let connection: TTRPCClient
    private let state = Mutex<(stream: UInt32?, cancelled: Bool)>((nil, false))

    init(_ connection: TTRPCClient) { self.connection = connection }

    func start(_ begin: () -> UInt32?) {
        guard let stream = begin() else { return }
        let cancelled = state.withLock { state in
            state.stream = stream
            return state.cancelled
        }
        if cancelled { connection.abandon(stream) }
    }

    func cancel() {
        let stream = state.withLock { state in
            state.cancelled = true
            return state.stream
        }
        if let stream { connection.abandon(stream) }
    }
}
