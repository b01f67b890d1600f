import Errors
import Synchronization

/// What the outputs that ExecSyncs collect may take of the daemon's memory, all at once.
///
/// Nobody waits for room: a command without an end would keep others from theirs. Small outputs are not counted, so that no pod's large
/// ones make another's probes fail.
public final class OutputBudget: Sendable {
    /// Bytes.
    public struct Limits: Sendable {
        /// Of one call; what is more is dropped.
        public var call: Int
        /// Of one call, which are not counted.
        public var free: Int
        /// Of one pod's calls at the same time.
        public var pod: Int
        /// Of all calls at the same time.
        public var node: Int

        public init(call: Int, free: Int = 64 << 10, pod: Int = 32 << 20, node: Int = 128 << 20) {
            self.call = call
            self.free = free
            self.pod = pod
            self.node = node
        }
    }

    fileprivate let limits: Limits
    private let taken = Mutex<(all: Int, pods: [String: Int])>((0, [:]))

    public init(_ limits: Limits) { self.limits = limits }

    /// For one call to a pod.
    public func allowance(for pod: String) -> OutputAllowance { OutputAllowance(self, pod) }

    fileprivate func take(_ bytes: Int, for pod: String) throws {
        try taken.withLock { taken in
            let own = taken.pods[pod, default: 0]
            for (used, limit, whose) in [(own, limits.pod, "the pod"), (taken.all, limits.node, "the node")] where used + bytes > limit {
                throw SwiftletError(
                    .resourceExhausted,
                    "the outputs of ExecSyncs that run at this moment take \(used) of the \(limit) bytes that all of \(whose) may take; "
                        + "try again, or let the command write less than \(limits.free) bytes")
            }
            taken.pods[pod] = own + bytes
            taken.all += bytes
        }
    }

    fileprivate func give(_ bytes: Int, of pod: String) {
        taken.withLock { taken in
            taken.all -= bytes
            let left = taken.pods[pod, default: 0] - bytes
            taken.pods[pod] = left > 0 ? left : nil
        }
    }
}

/// What one call may collect; what it took is given back with it.
public final class OutputAllowance: Sendable {
    private let budget: OutputBudget
    private let pod: String
    private let taken = Mutex(0)

    fileprivate init(_ budget: OutputBudget, _ pod: String) {
        self.budget = budget
        self.pod = pod
    }

    deinit { budget.give(Self.counted(taken.withLock { $0 }, budget.limits), of: pod) }

    /// - Returns: how many of so many bytes more may be kept.
    /// - Throws: `.resourceExhausted` when others have taken what is left.
    public func take(_ bytes: Int) throws -> Int {
        try taken.withLock { taken in
            let room = min(bytes, budget.limits.call - taken)
            let more = Self.counted(taken + room, budget.limits) - Self.counted(taken, budget.limits)
            if more > 0 { try budget.take(more, for: pod) }
            taken += room
            return room
        }
    }

    private static func counted(_ bytes: Int, _ limits: OutputBudget.Limits) -> Int { max(0, bytes - limits.free) }
}
