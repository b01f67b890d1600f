import Concurrency
import Logging
import PodMachine
import Runtime
import Synchronization

/// Work on machines of the pool that do not wait: what each holds is released behind what is under way on it.
final class PoolReleases: Sendable {
    private struct State {
        var works: [String: (number: Int, task: Task<Void, Never>)] = [:]
        var next = 0
    }

    private let releasers: Releasers
    private let logger: Logger
    /// From one attempt to release what a machine held to the next.
    private let pause: Duration
    private let state = Mutex(State())

    init(_ releasers: Releasers, pause: Duration, _ logger: Logger) {
        self.releasers = releasers
        self.pause = pause
        self.logger = logger
    }

    /// Begins work on the machine of this owner.
    func begin(_ owner: String, _ work: @escaping @Sendable () async -> Void) {
        state.withLock { state in
            state.next += 1
            let (number, former) = (state.next, state.works[owner]?.task)
            let task = Task {
                await former?.value
                await work()
                self.state.withLock { if $0.works[owner]?.number == number { $0.works[owner] = nil } }
            }
            state.works[owner] = (number, task)
        }
    }

    /// Releases what a machine holds that no pod will have, again and again until nothing is left.
    func discard(_ ledger: Ledger) {
        ledger.close()
        guard !ledger.entries.isEmpty else { return }
        begin(ledger.owner) { [releasers, logger, pause] in
            while true {
                let left = await ledger.releaseAll(by: releasers)
                if left.isEmpty || Task.isCancelled { break }
                logger.warning(
                    "machine of the pool not released, will be retried",
                    metadata: ["owner": "\(ledger.owner)", "left": "\(left.map { "\($0.entry.kind) \($0.entry.name) (\($0.reason))" })"])
                try? await Task.sleep(for: pause)
            }
        }
    }

    /// Waits for all work, that which other work begins too. What takes longer is left to the next daemon, in the ledger.
    func finish(within limit: Duration) async {
        try? await withDeadline(limit, "release the pool's machines") {
            while !Task.isCancelled, let work = self.state.withLock({ $0.works.values.first?.task }) { await work.value }
        }
        for work in state.withLock({ Array($0.works.values) }) { work.task.cancel() }
    }
}
