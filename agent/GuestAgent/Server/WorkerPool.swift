import Concurrency

/// Threads for calls that block: mounts, new processes, disks that are still being attached.
final class WorkerPool: Sendable {
    typealias Job = @Sendable () -> Void

    private let pool: BlockingPool

    /// - Parameter limit: threads at most; further jobs wait for one.
    init(limit: Int) {
        pool = BlockingPool("the agent's calls", threads: limit)
    }

    func run(_ job: @escaping Job) {
        do {
            try pool.submit(job)
        } catch {
            // A guest without a thread to give: a call that is answered late is better than one that is not.
            job()
        }
    }
}
