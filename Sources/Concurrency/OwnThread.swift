import Errors
import Glibc

/// Threads for work that must not run on Swift's cooperative pool: calls that block, and calls that change the thread
/// itself (its namespaces). Each piece of work gets a new thread, which ends with it.
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
            throw SwiftletError.system("starting a thread", errno: failure)
        }
        return thread
    }
}
