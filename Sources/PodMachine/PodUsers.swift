import Concurrency
import Errors
import Glibc
import Linux
import Machines
import Runtime
import Synchronization

/// Gives each pod a user of its own for its processes on the node: what breaks out of one machine is nobody to the others.
///
/// The ledgers' journal says which ids are taken, so that none is given twice whatever became of earlier daemons.
package final class PodUsers: Sendable {
    private struct State {
        var last: uid_t?
        /// Ids that processes have of whom no ledger knows; nil: not looked for yet.
        var foreign: Set<uid_t>?
    }

    package let range: UserRange
    private let changes = SerialQueue()
    private let state = Mutex(State())

    package init(_ range: UserRange) { self.range = range }

    /// Takes an id that is nobody's and writes it down in the pod's ledger.
    ///
    /// - Throws: `resourceExhausted` when all are taken.
    package func acquire(_ ledger: Ledger) async throws -> uid_t {
        // Between the look and the entry nobody else looks.
        try await changes.run { [self] in
            let id = try await Failpoint.pass("choose the user", around: { try await choose(ledger) })
            state.withLock { $0.last = id }
            try await ledger.acquire(.user, "\(id)") {}
            return id
        }
    }

    /// Whether a user is one that pods are given.
    package func isPods(_ id: uid_t) -> Bool { range.ids.contains(id) }

    private func choose(_ ledger: Ledger) async throws -> uid_t {
        let listed = Set(try await ledger.all(.user, named: "").compactMap { uid_t($0.name) })
        let foreign = await foreign(listed)
        let last = state.withLock { $0.last }
        guard let id = range.free(after: last, taken: listed.union(foreign)) else {
            throw SwiftletError(
                .resourceExhausted,
                "every one of the \(range.ids.count) user ids for pods is taken; machine.pod_uid_count says how many there are")
        }
        return id
    }

    private func foreign(_ listed: Set<uid_t>) async -> Set<uid_t> {
        if let known = state.withLock({ $0.foreign }) { return known }
        let ids = range.ids
        let running = await OwnThread.answer { Set(ProcessTable.running(as: ids).map(\.user)) }
        let foreign = running.subtracting(listed)
        state.withLock { $0.foreign = foreign }
        return foreign
    }

    /// Notes that processes of the user will run. To be done after everything that the user can write to, which is removed when they have
    /// ended, and before the first of them.
    package static func noteProcesses(of user: MachineUser, _ ledger: Ledger) async throws {
        try await ledger.acquire(.userProcesses, "\(user.uid)") {}
    }

    /// Ends what still runs as a user, so that what the user can write to can be removed, and the id be another pod's. Blocks.
    ///
    /// - Throws: `deadlineExceeded` while there is something; `dataLoss` for an id that no pod is given.
    package static func release(_ name: String) throws {
        guard let id = uid_t(name), id >= UserRange.least else {
            throw SwiftletError(.dataLoss, "the ledger names user \(quoted(name)), which no pod is given")
        }
        let deadline = ContinuousClock.now + .seconds(5)
        while true {
            // A process can start others until it has ended: none is left when none is found.
            let left = ProcessTable.running(as: id...id).map(\.process)
            if left.isEmpty { return }
            for process in left { process.kill() }
            for process in left where !process.waitForExit(ContinuousClock.now.duration(to: deadline)) {
                throw SwiftletError(.deadlineExceeded, "process \(process.pid) of the pod's user \(id) does not end on SIGKILL")
            }
            for process in left { process.reap() }
        }
    }
}
