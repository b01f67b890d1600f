import Errors
import Glibc

/// A thread for one piece of work, which ends with it: for work that changes the thread itself (its namespaces), for loops that run
/// as long as the process, and for calls that block so rarely that a pool is not worth its threads.
///
/// Work that tenants can make hang belongs on a ``BlockingPool``, whose threads are counted.
public enum OwnThread {
    /// Runs `work` on a new thread and suspends until it is done. Cancelling the task does not interrupt it.
    public static func run<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let start = ThreadStart { continuation.resume(with: Result { try work() }) }
            do {
                pthread_detach(try start.launch())
            } catch {
                continuation.resume(throwing: error)
            }
        }
    }

    /// Runs work that blocks but cannot fail, on a new thread; on the caller's where there is no thread to be had.
    public static func answer<Value: Sendable>(_ work: @escaping @Sendable () -> Value) async -> Value {
        if let value = try? await run(work) { return value }
        return work()
    }

    /// Runs `work` on a new thread and blocks the caller until it is done: for short work only.
    public static func runAndWait<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) throws -> Value {
        let outcome = Outcome<Value>()
        let thread = try ThreadStart { outcome.result = Result { try work() } }.launch()
        pthread_join(thread, nil)
        guard let result = outcome.result else {
            throw SwiftletError(.internal, "a thread ended without a result")
        }
        return try result.get()
    }

    /// Starts `work` on a new thread that nobody waits for.
    public static func start(_ work: @escaping @Sendable () -> Void) throws {
        pthread_detach(try ThreadStart(work).launch())
    }

    /// Written by the thread before it ends, read after pthread_join, which orders the two: hence unchecked.
    private final class Outcome<Value: Sendable>: @unchecked Sendable {
        var result: Result<Value, any Error>?
    }
}

/// What a new thread is to run, kept alive until it has run.
private final class ThreadStart: Sendable {
    private let work: @Sendable () -> Void

    init(_ work: @escaping @Sendable () -> Void) { self.work = work }

    func launch() throws -> pthread_t {
        var thread = pthread_t()
        let reference = Unmanaged.passRetained(self)
        let failure = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue().work()
                return nil
            }, reference.toOpaque())
        guard failure == 0 else {
            reference.release()
            // pthread_create(3): EAGAIN, for lack of memory, of threads or of pids.
            throw SwiftletError(.resourceExhausted, "start a thread: \(String(cString: strerror(failure))) (errno \(failure))")
        }
        return thread
    }
}
