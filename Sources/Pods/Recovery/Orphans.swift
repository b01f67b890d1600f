import Concurrency
import Logging
import Runtime
import State
import Synchronization

/// What the ledger lists for owners that nobody knows any more, such as a pod whose record a crash has taken. It is released like a
/// pod's, all owners at once, and again until nothing is left.
final class Orphans: Sendable {
    private let releasers: Releasers
    private let limit: Duration
    private let logger: Logger
    private let ledgers = Mutex<[Ledger]>([])
    private let rounds = SingleFlight<NoKey, Void>(whenAbandoned: .finish)

    init(releasers: Releasers, within limit: Duration, logger: Logger) {
        self.releasers = releasers
        self.limit = limit
        self.logger = logger
    }

    func adopt(_ resources: [String: [LedgerEntry]], in database: StateDatabase) {
        ledgers.withLock { ledgers in
            for (owner, entries) in resources {
                let ledger = Ledger(owner: owner, database: database, entries: entries)
                ledger.close()
                ledgers.append(ledger)
            }
        }
    }

    /// What could not be released yet, as "kind name".
    var pending: [String] { ledgers.withLock { $0 }.flatMap(\.entries).map { "\($0.kind) \($0.name)" } }

    /// Returns when each owner's resources have been released, or their deadlines have passed. Joins a round in flight.
    func release() async {
        try? await rounds.run { await self.releaseOnce() }
    }

    private func releaseOnce() async {
        let (releasers, limit, logger) = (releasers, limit, logger)
        await withTaskGroup(of: Void.self) { group in
            for ledger in ledgers.withLock({ $0 }) {
                group.addTask {
                    let left = await ledger.releaseAll(within: limit, by: releasers)
                    logger.warning(
                        "released what nobody owns", metadata: ["owner": "\(ledger.owner)", "left": "\(left.map(\.reason))"])
                }
            }
        }
        ledgers.withLock { $0.removeAll { $0.entries.isEmpty } }
    }
}
