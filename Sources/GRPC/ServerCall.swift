import CGRPC
import DequeModule
import Synchronization

/// One call on the server, from the slot that waits for it to the last operation's completion.
///
/// `@unchecked`: `state` is written by the core only while an operation of its own is under way and
/// read after that operation has completed; everything else mutable is behind `progress`.
final class ServerCall: QueuedObject, @unchecked Sendable {
    private enum Event {
        static let arrived = 0
        static let request = 1
        static let closed = 2
        static let sent = 3
    }

    /// One batch of send operations. The core takes one at a time, so they queue up here.
    private struct Send {
        var what: Int
        var message: [UInt8]?
        var status: GRPCStatus?
        var continuation: CheckedContinuation<Void, any Error>?
    }

    private struct Progress {
        var task: Task<Void, Never>?
        var cancelled = false
        var statusQueued = false
        var sending = false
        var current: CheckedContinuation<Void, any Error>?
        var waiting: Deque<Send> = []
    }

    private let core: ServerCore
    private let state: UnsafeMutablePointer<cgrpc_server_call>
    private let progress = Mutex(Progress())

    init(core: ServerCore) {
        guard let state = cgrpc_server_call_create() else { fatalError("gRPC: out of memory") }
        self.core = core
        self.state = state
        super.init()
        core.callCreated()
    }

    deinit {
        cgrpc_server_call_destroy(state)
        core.callReleased()
    }

    /// Waits in one of the server's slots for a call to arrive.
    func await() {
        let tag = tag(Event.arrived)
        if cgrpc_server_call_request(state, core.server, core.queue.pointer, tag) != 0 { Self.discard(tag) }
    }

    override func completed(_ kind: Int, ok: Bool) {
        switch kind {
        case Event.arrived: if ok { arrived() }
        case Event.request: received(ok: ok)
        case Event.closed: closed()
        default: sent(ok: ok)
        }
    }

    private func arrived() {
        core.fillSlot()
        let closeTag = tag(Event.closed)
        if cgrpc_server_call_await_close(state, closeTag) != 0 { Self.discard(closeTag) }
        let path = string(of: state.pointee.details.method)
        guard core.methods.handler(for: path) != nil else { return finish(core.methods.unimplemented(path)) }
        let requestTag = tag(Event.request)
        if cgrpc_server_call_receive(state, requestTag) != 0 { Self.discard(requestTag) }
    }

    private func received(ok: Bool) {
        guard ok else { return }
        guard let message = state.pointee.request else {
            return finish(GRPCStatus(.invalidArgument, "the call carried no request message"))
        }
        let request = bytes(of: message)
        cgrpc_server_call_release_request(state)
        let context = CallContext(
            method: string(of: state.pointee.details.method), metadata: metadata(of: state.pointee.metadata),
            deadline: instant(of: state.pointee.details.deadline), peer: peer())
        guard let handler = core.methods.handler(for: context.method) else { return }
        progress.withLock { progress in
            guard !progress.cancelled else { return }
            progress.task = Task { await self.run(handler, request, context) }
        }
    }

    private func peer() -> String {
        guard let name = grpc_call_get_peer(state.pointee.call) else { return "" }
        defer { gpr_free(name) }
        return String(cString: name)
    }

    private func closed() {
        let cancelled = state.pointee.cancelled != 0
        let task = progress.withLock { progress in
            progress.cancelled = progress.cancelled || cancelled
            defer { progress.task = nil }
            return progress.task
        }
        if cancelled { task?.cancel() }
    }

    private func run(_ handler: MethodHandler, _ request: [UInt8], _ context: CallContext) async {
        do {
            switch handler {
            case .unary(let answer):
                let reply = try await answer(request, context)
                if let status = core.refusal(ofReply: reply.count) { return finish(status) }
                let whole = CGRPC_SEND_HEADERS | CGRPC_SEND_MESSAGE | CGRPC_SEND_STATUS
                enqueue(Send(what: whole, message: reply, status: GRPCStatus(.ok, "")))
            case .serverStreaming(let answer):
                // Headers go at once: a client may wait for them before it trusts a quiet stream.
                enqueue(Send(what: CGRPC_SEND_HEADERS))
                try await answer(request, context, ResponseWriter { [self] in try await write($0) })
                enqueue(Send(what: CGRPC_SEND_STATUS, status: GRPCStatus(.ok, "")))
            }
        } catch {
            let status = core.status(of: error, method: context.method)
            switch handler {
            case .unary: finish(status)
            case .serverStreaming: enqueue(Send(what: CGRPC_SEND_STATUS, status: status))
            }
        }
    }

    private func write(_ message: [UInt8]) async throws {
        if let status = core.refusal(ofReply: message.count) { throw status }
        try await withCheckedThrowingContinuation { continuation in
            enqueue(Send(what: CGRPC_SEND_MESSAGE, message: message, continuation: continuation))
        }
    }

    /// Ends a call that has sent nothing yet.
    private func finish(_ status: GRPCStatus) {
        enqueue(Send(what: CGRPC_SEND_HEADERS | CGRPC_SEND_STATUS, status: status))
    }

    private func enqueue(_ send: Send) {
        let refused = progress.withLock { progress -> Bool in
            guard !progress.statusQueued else { return true }
            if send.status != nil { progress.statusQueued = true }
            guard !progress.sending else {
                progress.waiting.append(send)
                return false
            }
            return !start(send, &progress)
        }
        if refused { send.continuation?.resume(throwing: Self.gone) }
    }

    /// Starts one batch; called with the lock held, because the core wants a call's batches one after the other.
    private func start(_ send: Send, _ progress: inout Progress) -> Bool {
        let tag = tag(Event.sent)
        let message = send.message.flatMap(coreMessage)
        var text = send.status?.wireMessage ?? ""
        let result = text.withUTF8 { text in
            text.withMemoryRebound(to: CChar.self) { text in
                cgrpc_server_call_send(
                    state, Int32(send.what), message, Int32(send.status?.code.rawValue ?? 0), text.baseAddress, text.count, tag)
            }
        }
        guard result == 0 else {
            cgrpc_server_call_release_response(state)
            Self.discard(tag)
            return false
        }
        progress.sending = true
        progress.current = send.continuation
        return true
    }

    private func sent(ok: Bool) {
        cgrpc_server_call_release_response(state)
        var refused: [Send] = []
        let current = progress.withLock { progress -> CheckedContinuation<Void, any Error>? in
            progress.sending = false
            let current = progress.current
            progress.current = nil
            while !progress.sending, let next = progress.waiting.popFirst() {
                if !start(next, &progress) { refused.append(next) }
            }
            return current
        }
        if ok { current?.resume() } else { current?.resume(throwing: Self.gone) }
        for send in refused { send.continuation?.resume(throwing: Self.gone) }
    }

    private static let gone = GRPCStatus(.cancelled, "the client is gone or has cancelled the call")
}
