import Errors
import Pods
import Synchronization

/// Limits that a fake machine was given, and what it refuses.
final class FakeUpdates: Sendable {
    private struct State {
        var files: [String: [[String: String]]] = [:]
        var demands: [PodDemand] = []
        var refusesFiles = false
        var refusesGrowth = false
    }

    private let state = Mutex(State())

    func files(of id: String) -> [[String: String]] { state.withLock { $0.files[id] ?? [] } }
    var demands: [PodDemand] { state.withLock { $0.demands } }
    func refuse(files: Bool = false, growth: Bool = false) {
        state.withLock { ($0.refusesFiles, $0.refusesGrowth) = (files, growth) }
    }

    func take(_ id: String, _ files: [String: String]) throws {
        try state.withLock { state in
            guard !state.refusesFiles else { throw SwiftletError(.failedPrecondition, "injected") }
            state.files[id, default: []].append(files)
        }
    }

    func fit(_ demand: PodDemand) throws {
        try state.withLock { state in
            guard !state.refusesGrowth else { throw SwiftletError(.deadlineExceeded, "injected growth") }
            state.demands.append(demand)
        }
    }
}
