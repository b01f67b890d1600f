import Errors
import Pods
import Runtime
import Synchronization

/// Limits that a fake machine was given, and what it refuses or takes its time for.
final class FakeUpdates: Sendable {
    enum Step: Sendable, Equatable {
        case fits
        case files
    }

    private struct State {
        var files: [String: [[String: String]]] = [:]
        var filesThatComeLate = 0
        var demands: [PodDemand] = []
        var refusesFiles = false
        var refusesGrowth = false
        var refusalsToCome = 0
        var held: Step?
        /// Calls that have begun and not ended.
        var running: [Step] = []
        var most = 0
    }

    private let state = Mutex(State())

    func files(of id: String) -> [[String: String]] { state.withLock { $0.files[id] ?? [] } }
    var demands: [PodDemand] { state.withLock { $0.demands } }
    func refuse(files: Bool = false, growth: Bool = false) {
        state.withLock { ($0.refusesFiles, $0.refusesGrowth) = (files, growth) }
    }
    /// The next change of files happens, and its caller is told that it has not ended in time.
    func answerNextFilesLate() { state.withLock { $0.filesThatComeLate = 1 } }
    func refuseNextGrowth() { state.withLock { $0.refusalsToCome += 1 } }
    /// Calls of this kind do not end from now on; nil: all do.
    func hold(_ step: Step?) { state.withLock { $0.held = step } }
    func running(_ step: Step) -> Bool { state.withLock { $0.running.contains(step) } }
    /// The most calls that were under way at once.
    var most: Int { state.withLock { $0.most } }

    func take(_ id: String, _ files: [String: String]) async throws {
        try await perform(.files) { state in
            guard !state.refusesFiles else { throw SwiftletError(.failedPrecondition, "injected") }
            state.files[id, default: []].append(files)
            guard state.filesThatComeLate == 0 else {
                state.filesThatComeLate -= 1
                throw SwiftletError(.deadlineExceeded, "injected after the change")
            }
        }
    }

    func fit(_ demand: PodDemand) async throws {
        try await perform(.fits) { state in
            if state.refusalsToCome > 0 {
                state.refusalsToCome -= 1
                throw SwiftletError(.resourceExhausted, "injected growth")
            }
            guard !state.refusesGrowth else { throw SwiftletError(.deadlineExceeded, "injected growth") }
            state.demands.append(demand)
        }
    }

    private func perform(_ step: Step, _ body: (inout sending State) throws -> Void) async throws {
        state.withLock { state in
            state.running.append(step)
            state.most = max(state.most, state.running.count)
        }
        while state.withLock({ $0.held == step }) { await Task.yield() }
        try state.withLock { state in
            state.running.remove(at: state.running.firstIndex(of: step) ?? 0)
            try body(&state)
        }
    }
}
