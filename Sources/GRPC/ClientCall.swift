import CGRPC
import Synchronization

/// One call of a client: what unary and streaming calls share.
///
/// `@unchecked`: `state` is written by the core only while an operation of its own is under way and
/// read after that operation has completed; subclasses document how they guard the rest.
class ClientCall: QueuedObject, @unchecked Sendable {
    fileprivate let core: ClientCore
    fileprivate let state: UnsafeMutablePointer<cgrpc_client_call>

    fileprivate init(core: ClientCore, path: String, timeout: Duration?, metadata: [(String, String)]) throws {
        guard core.reserve() else { throw core.closedStatus() }
        var path = path
        let state = path.withUTF8 { text in
            text.withMemoryRebound(to: CChar.self) { text in
                cgrpc_client_call_create(core.channel, core.queue.pointer, text.baseAddress, text.count, coreDeadline(after: timeout))
            }
        }
        guard let state else { fatalError("gRPC: out of memory") }
        self.core = core
        self.state = state
        super.init()
        try addMetadata(metadata)
        guard core.register(self) else { throw core.closedStatus() }
    }

    deinit {
        cgrpc_client_call_destroy(state)
        core.callReleased()
    }

    /// Ends the call with `cancelled`, if it has not ended yet.
    final func cancel() {
        grpc_call_cancel(state.pointee.call, nil)
    }

    private func addMetadata(_ metadata: [(String, String)]) throws {
        for (key, value) in metadata {
            let bytes = key.hasSuffix("-bin") ? Base64.decode(value) : Array(value.utf8)
            guard let bytes, cgrpc_client_call_add_metadata(state, key, key.utf8.count, bytes, bytes.count) != 0 else {
                throw GRPCStatus(.invalidArgument, "metadata \"\(key)\": the key or the value cannot be sent")
            }
        }
    }

    fileprivate final func message(_ request: [UInt8]) throws -> UnsafeMutablePointer<grpc_byte_buffer>? {
        guard request.count <= core.maximumMessageBytes else {
            throw GRPCStatus(
                .resourceExhausted, "the request has \(request.count) bytes; at most \(core.maximumMessageBytes) can be sent")
        }
        return coreMessage(request)
    }

    /// Valid once the status operation has completed.
    fileprivate final func status() -> GRPCStatus {
        let code = GRPCStatus.Code(rawValue: Int(state.pointee.status.rawValue)) ?? .unknown
        return GRPCStatus(code, string(of: state.pointee.details))
    }

    fileprivate final func takeMessage() -> [UInt8]? {
        guard let message = state.pointee.response else { return nil }
        defer { cgrpc_client_call_release_response(state) }
        return bytes(of: message)
    }

    fileprivate static let notStarted = GRPCStatus(.internal, "the gRPC core refused to start the call's operations")
}

/// A call with one reply: a single batch, a single completion.
///
/// `@unchecked`: `continuation` is set before the only batch starts and taken when it has completed.
final class UnaryClientCall: ClientCall, @unchecked Sendable {
    private var continuation: CheckedContinuation<[UInt8], any Error>?

    override init(core: ClientCore, path: String, timeout: Duration?, metadata: [(String, String)]) throws {
        try super.init(core: core, path: path, timeout: timeout, metadata: metadata)
    }

    func reply(to request: [UInt8]) async throws -> [UInt8] {
        defer { core.callEnded(self) }
        let message = try message(request)
        return try await withCheckedThrowingContinuation { continuation in
            self.continuation = continuation
            let tag = tag(0)
            if cgrpc_client_call_unary(state, message, tag) != 0 {
                self.continuation = nil
                Self.discard(tag)
                continuation.resume(throwing: Self.notStarted)
            }
        }
    }

    override func completed(_ kind: Int, ok: Bool) {
        let status = status()
        let reply = takeMessage()
        let continuation = continuation.take()
        if status.code != .ok {
            continuation?.resume(throwing: status)
        } else if let reply {
            continuation?.resume(returning: reply)
        } else {
            continuation?.resume(throwing: GRPCStatus(.internal, "the server answered OK without a reply message"))
        }
    }
}

/// A call with any number of replies, each received when asked for.
///
/// `@unchecked`: mutable state is behind `progress`.
final class StreamingClientCall: ClientCall, @unchecked Sendable {
    private enum Event {
        static let started = 0
        static let status = 1
        static let message = 2
    }

    private struct Progress {
        var reader: CheckedContinuation<[UInt8]?, any Error>?
        /// The last message has been read; the reader waits for the status.
        var drained = false
        var status: GRPCStatus?
    }

    private let progress = Mutex(Progress())

    init(core: ClientCore, path: String, timeout: Duration?, metadata: [(String, String)], request: [UInt8]) throws {
        try super.init(core: core, path: path, timeout: timeout, metadata: metadata)
        do {
            let message = try message(request)
            let startTag = tag(Event.started)
            guard cgrpc_client_call_start(state, message, startTag) == 0 else {
                Self.discard(startTag)
                throw Self.notStarted
            }
            let statusTag = tag(Event.status)
            guard cgrpc_client_call_await_status(state, statusTag) == 0 else {
                Self.discard(statusTag)
                cancel()
                throw Self.notStarted
            }
        } catch {
            core.callEnded(self)
            throw error
        }
    }

    /// The next message, or nil after the last one of a call that ended well. One reader at a time.
    func next() async throws -> [UInt8]? {
        try await withCheckedThrowingContinuation { continuation in
            let refusal = progress.withLock { progress -> GRPCStatus? in
                guard progress.reader == nil else { return GRPCStatus(.failedPrecondition, "the stream is being read already") }
                let tag = tag(Event.message)
                guard cgrpc_client_call_receive(state, tag) == 0 else {
                    Self.discard(tag)
                    return progress.status ?? Self.notStarted
                }
                progress.reader = continuation
                return nil
            }
            if let refusal { continuation.resume(throwing: refusal) }
        }
    }

    override func completed(_ kind: Int, ok: Bool) {
        switch kind {
        case Event.message:
            if let message = takeMessage() {
                let reader = progress.withLock { $0.reader.take() }
                reader?.resume(returning: message)
            } else {
                progress.withLock { $0.drained = true }
                endIfDone()
            }
        case Event.status:
            core.callEnded(self)
            let status = status()
            progress.withLock { $0.status = status }
            endIfDone()
        default: break
        }
    }

    private func endIfDone() {
        progress.withLock { progress in
            guard progress.drained, let status = progress.status, let reader = progress.reader.take() else { return }
            if status.code == .ok { reader.resume(returning: nil) } else { reader.resume(throwing: status) }
        }
    }
}
