import DequeModule
import Errors

/// Threads for calls that block, so that Swift's cooperative pool, which has one thread for each CPU, never waits for one.
///
/// Threads start as they are needed, up to a number, and a few are kept. A call may have a deadline: one that hangs past it costs its
/// thread, which is replaced, and nothing else.
public final class BlockingPool: Sendable {
    private struct State {
        var queue: Deque<any PoolJob> = []
        /// Threads that wait for a job, with those that a signal is on its way to.
        var idle = 0
        /// Threads that live, with those that hang.
        var threads = 0
        var hung = 0
        var isClosed = false
    }

    /// Idle threads that are kept.
    private static let keptIdle = 4

    private let name: String
    private let most: Int
    private let mostHung: Int
    private let monitor = Monitor(State())

    /// - Parameters:
    ///   - name: what the calls are made to, for errors.
    ///   - threads: calls that run at once; further ones wait.
    ///   - mostHung: threads lost to calls that hang, after which new calls are refused.
    public init(_ name: String, threads: Int, mostHung: Int = 64) {
        self.name = name
        most = max(threads, 1)
        self.mostHung = mostHung
    }

    /// Threads that live, and how many of them hang in a call that nobody waits for any longer.
    var threads: (all: Int, hung: Int) { monitor.withLock { ($0.threads, $0.hung) } }

    /// Jobs that wait for a thread.
    var queued: Int { monitor.withLock { $0.queue.count } }

    /// Runs `body` on one of the threads.
    ///
    /// - Parameters:
    ///   - step: what the call does, for the error.
    ///   - timeout: how long the caller waits at most, in the queue and for the call.
    ///   - discard: gets, on the same thread, a value that came after the deadline: something that has to be closed.
    ///   - body: gets the call, to see whether anybody waits for it. It is not interrupted when the caller is cancelled.
    /// - Throws: what `body` throws; `deadlineExceeded`, while the body may still be running; `unavailable` when the pool is closed or
    ///   too many calls hang.
    public func run<Value: Sendable>(
        _ step: String, timeout: Duration? = nil, discard: @escaping @Sendable (Value) -> Void = { _ in },
        _ body: @escaping @Sendable (BlockingCall) throws -> Value
    ) async throws -> Value {
        let call = BlockingCall()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let job = CallJob(call: call, continuation: continuation, discard: discard, body: body)
                do {
                    try enqueue(job)
                } catch {
                    job.fail(error)
                    return
                }
                guard let timeout else { return }
                let deadline = Task { [self] in
                    try? await Task.sleep(for: timeout)
                    if !Task.isCancelled { expire(job, step, after: timeout) }
                }
                job.onEnd { deadline.cancel() }
            }
        } onCancel: {
            call.cancel()
        }
    }

    /// Runs `job` on one of the threads; nobody waits for it.
    ///
    /// - Throws: `unavailable` when the pool is closed; `resourceExhausted` when the node has no thread to give.
    public func submit(_ job: @escaping @Sendable () -> Void) throws {
        try enqueue(PlainJob(job))
    }

    /// Lets the threads end when the queue is empty. Calls after it throw.
    public func close() {
        monitor.withLock { $0.isClosed = true }
        monitor.broadcast()
    }

    private func enqueue(_ job: any PoolJob) throws {
        let needsThread = try monitor.withLock { state in
            guard !state.isClosed else { throw SwiftletError(.unavailable, "\(name): closed") }
            guard state.hung < mostHung else {
                throw SwiftletError(.unavailable, "\(name): \(state.hung) calls hang; new ones are refused until one of them ends")
            }
            state.queue.append(job)
            guard state.idle < state.queue.count, state.threads - state.hung < most else { return false }
            state.threads += 1
            return true
        }
        if needsThread {
            do {
                try startThread()
            } catch {
                guard monitor.withLock({ Self.withdraw(job, &$0) }) else { return }
                throw error
            }
        } else {
            monitor.signal()
        }
    }

    /// Takes back a job that no thread is there for. Threads that live take it later.
    private static func withdraw(_ job: any PoolJob, _ state: inout State) -> Bool {
        guard state.threads - state.hung == 0, let index = state.queue.firstIndex(where: { $0 === job }) else { return false }
        state.queue.remove(at: index)
        return true
    }

    private func startThread() throws {
        do {
            try OwnThread.start { [self] in work() }
        } catch {
            monitor.withLock { $0.threads -= 1 }
            throw error
        }
    }

    private func work() {
        while let job = next() {
            // A thread that was written off has a successor.
            guard job.perform() else {
                monitor.withLock { state in
                    state.threads -= 1
                    state.hung -= 1
                }
                return
            }
        }
    }

    /// The next job; nil when the thread is to end, which is then no longer counted.
    private func next() -> (any PoolJob)? {
        var isIdle = false
        return monitor.wait { state -> (any PoolJob)?? in
            if isIdle { state.idle -= 1 }
            isIdle = false
            if let job = state.queue.popFirst() { return .some(job) }
            guard !state.isClosed, state.idle < Self.keptIdle else {
                state.threads -= 1
                return .some(nil)
            }
            state.idle += 1
            isIdle = true
            return nil
        }
    }

    /// Fails a call whose deadline has passed. One that runs gets a thread in its place.
    private func expire(_ job: any PoolJob, _ step: String, after timeout: Duration) {
        guard job.abandon(SwiftletError(.deadlineExceeded, "\(step): \(name) did not answer within \(timeout)")) else { return }
        let replace = monitor.withLock { state in
            if let index = state.queue.firstIndex(where: { $0 === job }) {
                state.queue.remove(at: index)
                return false
            }
            guard job.markHung() else { return false }
            state.hung += 1
            guard !state.queue.isEmpty, state.idle < state.queue.count, state.threads - state.hung < most else { return false }
            state.threads += 1
            return true
        }
        if replace { try? startThread() }
    }
}
