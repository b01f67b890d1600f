import CLibvirt
import Errors
import Glibc
import Linux
import Synchronization

/// Threads for libvirt's blocking calls. Each call has a deadline; a call that hangs past it costs its thread, which is
/// replaced, and nothing else.
final class LibvirtCalls: Sendable {
    /// Threads that take calls.
    private static let width = 6
    /// Threads lost to calls that never returned, after which new calls are refused.
    private static let mostHung = 64

    private struct State {
        var queue: [any PendingCall] = []
        var idle = 0
        var threads = 0
        var hung = 0
        var closed = false
    }

    private let state = Mutex(State())
    private let wake = Semaphore()

    /// Runs `body` on one of the threads.
    ///
    /// - Parameters:
    ///   - step: what the call does, for the error.
    ///   - body: gets the call, to see whether anybody still waits for it.
    /// - Throws: what `body` throws; `deadlineExceeded`, while the body may still be running.
    func run<Value: Sendable>(
        _ step: String, timeout: Duration, _ body: @escaping @Sendable (CallTicket) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let call = Call(step: step, continuation: continuation, body: body)
            do {
                try enqueue(call)
            } catch {
                call.ticket.finish { continuation.resume(throwing: error) }
                return
            }
            let deadline = Task { [self] in
                try? await Task.sleep(for: timeout)
                if !Task.isCancelled { expire(call, after: timeout) }
            }
            call.onEnd { deadline.cancel() }
        }
    }

    /// Lets the threads end as they become idle.
    func close() {
        let threads = state.withLock { state in
            state.closed = true
            return state.threads
        }
        for _ in 0..<threads { wake.signal() }
    }

    private func enqueue(_ call: any PendingCall) throws {
        let needsThread = try state.withLock { state in
            guard !state.closed else { throw SwiftletError(.unavailable, "the connection to libvirt is closed") }
            guard state.hung < Self.mostHung else {
                throw SwiftletError(.unavailable, "\(state.hung) calls to libvirt hang; restart libvirtd")
            }
            state.queue.append(call)
            guard state.idle < state.queue.count, state.threads - state.hung < Self.width else { return false }
            state.threads += 1
            return true
        }
        if needsThread { try startThread() }
        wake.signal()
    }

    private func startThread() throws {
        do {
            try OwnThread.start { self.work() }
        } catch {
            state.withLock { $0.threads -= 1 }
            throw error
        }
    }

    private func work() {
        while true {
            state.withLock { $0.idle += 1 }
            wake.wait()
            let next = state.withLock { state -> (any PendingCall)? in
                state.idle -= 1
                return state.queue.isEmpty ? nil : state.queue.removeFirst()
            }
            if let next {
                next.perform()
                // A thread that was written off has a successor.
                guard !next.wasHung else { break }
            } else if state.withLock({ $0.closed }) {
                break
            }
        }
        state.withLock { $0.threads -= 1 }
    }

    /// Answers the caller. A call that runs now gets a thread in its place.
    private func expire(_ call: any PendingCall, after timeout: Duration) {
        guard call.abandon(SwiftletError(.deadlineExceeded, "\(call.step): libvirt did not answer within \(timeout)")) else { return }
        let replace = state.withLock { state in
            if let index = state.queue.firstIndex(where: { $0 === call }) {
                state.queue.remove(at: index)
                return false
            }
            guard call.markHung({ self.state.withLock { $0.hung -= 1 } }) else { return false }
            state.hung += 1
            state.threads += 1
            return true
        }
        if replace { try? startThread() }
    }
}

/// Whether the caller of a running call still waits.
final class CallTicket: Sendable {
    private let answered = Mutex(false)

    /// The caller has been told that the call failed: whatever it does from now on nobody will use.
    var isAbandoned: Bool { answered.withLock { $0 } }

    /// Runs `answer` unless somebody has answered before.
    @discardableResult
    fileprivate func finish(_ answer: () -> Void) -> Bool {
        let first = answered.withLock { answered in
            defer { answered = true }
            return !answered
        }
        if first { answer() }
        return first
    }
}

private protocol PendingCall: AnyObject, Sendable {
    var step: String { get }
    var wasHung: Bool { get }
    func perform()
    func abandon(_ error: SwiftletError) -> Bool
    func markHung(_ recovered: @escaping @Sendable () -> Void) -> Bool
}

private final class Call<Value: Sendable>: PendingCall {
    private struct State {
        var ended = false
        var hung = false
        var recovered: (@Sendable () -> Void)?
        var onEnd: (@Sendable () -> Void)?
    }

    let step: String
    let ticket = CallTicket()
    private let continuation: CheckedContinuation<Value, any Error>
    private let body: @Sendable (CallTicket) throws -> Value
    private let state = Mutex(State())

    init(
        step: String, continuation: CheckedContinuation<Value, any Error>, body: @escaping @Sendable (CallTicket) throws -> Value
    ) {
        self.step = step
        self.continuation = continuation
        self.body = body
    }

    var wasHung: Bool { state.withLock { $0.hung } }

    func perform() {
        guard !ticket.isAbandoned else { return }
        let result = Result { try body(ticket) }
        let (recovered, onEnd) = state.withLock { state in
            state.ended = true
            return (state.recovered, state.onEnd)
        }
        recovered?()
        onEnd?()
        ticket.finish { continuation.resume(with: result) }
    }

    func abandon(_ error: SwiftletError) -> Bool {
        ticket.finish { continuation.resume(throwing: error) }
    }

    /// Notes that the thread is lost to this call, unless the call has just ended.
    func markHung(_ recovered: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard !state.ended else { return false }
            state.hung = true
            state.recovered = recovered
            return true
        }
    }

    func onEnd(_ action: @escaping @Sendable () -> Void) {
        let ended = state.withLock { state in
            state.onEnd = action
            return state.ended
        }
        if ended { action() }
    }
}

/// A POSIX semaphore on the heap.
private final class Semaphore: @unchecked Sendable {
    // Safe: sem_t is made to be shared by threads, and the pointer never changes.
    private let semaphore: UnsafeMutablePointer<sem_t>

    init() {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, 0)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func signal() { sem_post(semaphore) }

    func wait() {
        while sem_wait(semaphore) != 0 {}
    }
}
