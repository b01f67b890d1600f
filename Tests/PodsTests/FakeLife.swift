import Errors
import Pods
import Runtime
import Synchronization

/// How a fake machine's containers are made, start and end.
final class FakeLife: Sendable {
    private struct State {
        var holdsCreations = false
        var creations = 0
        var present: Set<String> = []
        var startFailure: SwiftletError?
        var exit: ProcessExit?
        var deafness: SwiftletError?
        var exitFailures = 0
        var runsWhole = false
        var deleted: [String] = []
        var acquires: (@Sendable (String, Ledger) async throws -> Void)?
    }

    private let state = Mutex(State())

    var creations: Int { state.withLock { $0.creations } }
    func holdCreations(_ hold: Bool) { state.withLock { $0.holdsCreations = hold } }
    func failStarts(_ failure: SwiftletError?) { state.withLock { $0.startFailure = failure } }
    /// Signals and deletions fail from now on, as those of a machine whose end nobody has seen yet.
    func deafen(_ failure: SwiftletError) { state.withLock { $0.deafness = failure } }

    /// Sessions have no streams from now on.
    func runWhole() { state.withLock { $0.runsWhole = true } }
    var runsWhole: Bool { state.withLock { $0.runsWhole } }

    func hear() throws {
        if let failure = state.withLock({ $0.deafness }) { throw failure }
    }

    /// The next waits for an end fail, whatever has ended.
    func failWaits(_ count: Int) { state.withLock { $0.exitFailures = count } }
    var failuresLeft: Int { state.withLock { $0.exitFailures } }
    /// Ends all containers, also those that are started later.
    func end(_ exit: ProcessExit) { state.withLock { $0.exit = exit } }

    /// Containers that were deleted in the guest.
    var deletions: [String] { state.withLock { $0.deleted } }
    /// What a creation acquires by the container's ledger.
    func acquire(by work: @escaping @Sendable (String, Ledger) async throws -> Void) { state.withLock { $0.acquires = work } }

    func acquire(_ id: String, _ ledger: Ledger) async throws {
        try await state.withLock { $0.acquires }?(id, ledger)
    }

    /// Containers that the guest knows.
    var present: Set<String> { state.withLock { $0.present } }
    /// The guest knows none of them any more.
    func loseAll() { state.withLock { $0.present = [] } }

    func deleted(_ id: String) {
        state.withLock { state in
            state.deleted.append(id)
            state.present.remove(id)
        }
    }

    func create(_ id: String) async {
        state.withLock { state in
            state.creations += 1
            state.present.insert(id)
        }
        while state.withLock({ $0.holdsCreations }) { await Task.yield() }
    }

    func start() throws {
        if let failure = state.withLock({ $0.startFailure }) { throw failure }
    }

    func exit() async throws -> ProcessExit {
        while true {
            let fails = state.withLock { state in
                guard state.exitFailures > 0 else { return false }
                state.exitFailures -= 1
                return true
            }
            if fails { throw SwiftletError(.dataLoss, "the answer cannot be read: injected") }
            if let exit = state.withLock({ $0.exit }) { return exit }
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}
