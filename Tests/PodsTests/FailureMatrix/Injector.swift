import Errors
import Synchronization

@testable import Runtime

/// What happens at a fail-point.
enum Fault: String, CaseIterable, Sendable {
    case error
    case hang
    case kill
}

/// One life of the daemon: passes all fail-points but one, and hangs at every point after its death.
final class Injector: Sendable {
    private struct State {
        var seen: [String: Int] = [:]
        var order: [String] = []
        var isHit = false
        var isDead = false
        var isOver = false
        var isLetGo = false
        /// Acquisitions and releases between their first and their last point.
        var underWay = 0
        var parked: [CheckedContinuation<Void, any Error>] = []
    }

    private let point: String
    private let fault: Fault
    private let state = Mutex(State())

    /// - Parameter point: none: passes all.
    init(_ point: String = "", _ fault: Fault = .error) {
        self.point = point
        self.fault = fault
    }

    /// The points in the order in which they were passed first.
    var points: [String] { state.withLock { $0.order } }
    var isHit: Bool { state.withLock { $0.isHit } }
    /// Whether nothing of a dead daemon goes on.
    var isStill: Bool { state.withLock { $0.isDead && $0.underWay == 0 } }

    /// Runs `body` as part of this life.
    func live<Value>(_ body: () async throws -> Value) async rethrows -> Value {
        try await Failpoint.$observer.withValue({ try await self.reach($0) }, operation: body)
    }

    /// The daemon dies, wherever its work is.
    func kill() { state.withLock { $0.isDead = true } }

    /// Lets what hangs go on.
    func letGo() { resume(with: .success(())) { $0.isLetGo = true } }

    /// Ends whatever still hangs, and all that reaches a point from now on.
    func end() { resume(with: .failure(Self.over)) { $0.isOver = true } }

    private static let over = SwiftletError(.aborted, "the daemon is dead")

    private func resume(with result: Result<Void, any Error>, _ change: (inout State) -> Void) {
        let parked = state.withLock { state in
            change(&state)
            defer { state.parked = [] }
            return state.parked
        }
        for continuation in parked { continuation.resume(with: result) }
    }

    private func reach(_ name: String) async throws {
        guard !name.hasPrefix("left ") else { return state.withLock { $0.underWay -= 1 } }
        let isHere = state.withLock { state in
            let count = state.seen[name, default: 0] + 1
            state.seen[name] = count
            let point = count == 1 ? name : "\(name) (\(count))"
            if !state.order.contains(point) { state.order.append(point) }
            if name.hasPrefix("after ") { state.underWay -= 1 }
            guard point == self.point, !state.isDead else { return false }
            state.isHit = true
            if fault == .kill { state.isDead = true }
            return true
        }
        if isHere, fault == .error { throw SwiftletError(.internal, "injected") }
        if isHere || state.withLock({ $0.isDead || $0.isOver }) { try await park() }
        if name.hasPrefix("before ") { state.withLock { $0.underWay += 1 } }
    }

    /// A hang does not end by a cancellation, as a blocking call's does not.
    private func park() async throws {
        try await withCheckedThrowingContinuation { continuation in
            let result: Result<Void, any Error>? = state.withLock { state in
                if state.isOver { return .failure(Self.over) }
                if state.isLetGo, !state.isDead { return .success(()) }
                state.parked.append(continuation)
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
    }
}
