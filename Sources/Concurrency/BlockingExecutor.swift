import DequeModule
import Synchronization

/// Runs an actor's jobs one after the other on the threads of a ``BlockingPool``: for actors whose methods block, as those that write
/// files do. It takes a thread only while there is something to run.
public final class BlockingExecutor: SerialExecutor {
    private struct State {
        var jobs: Deque<UnownedJob> = []
        var isRunning = false
    }

    /// Jobs after which the thread goes to another executor that waits for one.
    private static let turn = 16
    /// Time until the next attempt to get a thread, when there was none.
    private static let retry = Duration.milliseconds(100)

    private let pool: BlockingPool
    private let state = Mutex(State())

    public init(_ pool: BlockingPool) { self.pool = pool }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let starts = state.withLock { state in
            state.jobs.append(job)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if starts { resume() }
    }

    private func resume() {
        do {
            try pool.submit { [self] in drain() }
        } catch {
            // An actor's jobs must run: as soon as the node has a thread for them.
            Task {
                try? await Task.sleep(for: Self.retry)
                resume()
            }
        }
    }

    private func drain() {
        for _ in 0..<Self.turn {
            let job: UnownedJob? = state.withLock { state in
                let job = state.jobs.popFirst()
                if job == nil { state.isRunning = false }
                return job
            }
            guard let job else { return }
            job.runSynchronously(on: asUnownedSerialExecutor())
        }
        resume()
    }
}
