import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Synchronization

/// Threads for calls that block: mounts, new processes, disks that are still being attached. Started as needed and kept.
final class WorkerPool: Sendable {
    typealias Job = @Sendable () -> Void

    private struct State {
        var jobs: [Job] = []
        var threads = 0
        var idle = 0
    }

    private let limit: Int
    private let state = Mutex(State())
    /// Counts jobs that wait.
    private let waiting = clinux_semaphore()

    /// - Parameter limit: threads at most; further jobs wait for one.
    init(limit: Int) throws(SwiftletError) {
        self.limit = limit
        guard waiting >= 0 else { throw .system("worker pool: eventfd") }
    }

    func run(_ job: @escaping Job) {
        let needsThread = state.withLock { state in
            state.jobs.append(job)
            guard state.idle < state.jobs.count, state.threads < limit else { return false }
            state.threads += 1
            return true
        }
        if needsThread {
            do {
                try OwnThread.start { self.work() }
            } catch {
                // Those that run take the job later.
                state.withLock { $0.threads -= 1 }
            }
        }
        eventfd_write(waiting, 1)
    }

    private func work() {
        while true {
            state.withLock { $0.idle += 1 }
            var count: eventfd_t = 0
            while eventfd_read(waiting, &count) != 0 {}
            let job = state.withLock { state in
                state.idle -= 1
                return state.jobs.removeFirst()
            }
            job()
        }
    }
}
