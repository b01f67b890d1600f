import Concurrency
import Errors
import Linux
import Runtime
import Synchronization

/// Sets the limits of a pod's control group, the latest ones alone, and again as long as a group above does not allow them.
package final class CgroupLimiter: Sendable {
    private struct State {
        var limits: CgroupLimits?
        var retry: Task<Void, Never>?
    }

    /// A kubelet raises its own group right after it has told the runtime of new limits.
    private static let pause = Duration.seconds(1)

    private let group: @Sendable () throws -> ProcessCgroup?
    private let state = Mutex(State())

    /// - Parameter ledger: lists the group.
    package init(ledger: Ledger) { group = { try ledger.entry(.cgroup)?.decoded(ProcessCgroup.self) } }

    package init(_ cgroup: ProcessCgroup) { group = { cgroup } }

    deinit { close() }

    /// Sets the limits, as far as the groups above allow it at this moment.
    package func set(_ limits: CgroupLimits) async throws {
        guard try await OwnThread.run({ [self] in try apply(limits) }) == false else { return }
        let retry = Task { [weak self] in
            while !Task.isCancelled {
                try? await Task.sleep(for: Self.pause)
                guard let self, !Task.isCancelled, (try? await OwnThread.run { try self.applyAgain() }) == false else { return }
            }
        }
        state.withLock { state in
            state.retry?.cancel()
            state.retry = retry
        }
    }

    /// Under the lock: older limits never follow newer ones.
    private func apply(_ limits: CgroupLimits) throws -> Bool {
        try state.withLock { state in
            state.retry?.cancel()
            state.limits = limits
            return try write(limits)
        }
    }

    private func applyAgain() throws -> Bool {
        try state.withLock { state in try state.limits.map { try write($0) } ?? true }
    }

    private func write(_ limits: CgroupLimits) throws -> Bool {
        guard let cgroup = try group() else { return true }
        return try cgroup.apply(limits)
    }

    /// Gives up what is not set yet.
    package func close() {
        state.withLock { state in
            state.retry?.cancel()
            state.limits = nil
        }
    }
}
