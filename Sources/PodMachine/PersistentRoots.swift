import Concurrency
import Errors
import Runtime
import State
import Synchronization

/// Tells a root disk that outlives its machine from all others of the node.
package struct RootDiskKey: Codable, Sendable, Equatable, CustomStringConvertible {
    package var name: String
    /// For people.
    package var description: String

    package init(name: String, description: String) {
        self.name = name
        self.description = description
    }
}

extension ResourceKind {
    /// That a root disk which outlives its machine is a container's, by its key's name.
    package static let rootDisk = ResourceKind("rootDisk")
    /// An image that is being written to a pod's root disk, from its first look at the disk on and again from its user on: neither is given
    /// back before the copy has ended.
    package static let rootCopy = ResourceKind("rootCopy")
}

/// Whose machine must be gone before another pod has its root disk.
package struct RootDiskDocument: StoredDocument {
    package static let what = "ledger document of a root disk"

    package var machine: String

    package init(machine: String) { self.machine = machine }
}

/// The node's disks that outlive their machines: which container's machine has which, and the images that are being written to them.
///
/// A copy belongs to its pod, not to the container that asked for it first: a kubelet gives a creation up long before a large image is
/// copied, and makes another container, which waits for the same copy.
package final class PersistentRoots: Sendable {
    private struct Holder {
        var pod: String
        var container: String
    }

    private struct Copy {
        let number: UInt64
        let pod: String
        let image: String
        let task: Task<Void, any Error>
        var lastAsked = ContinuousClock.now
        /// Whom nobody has told of it yet.
        var outcome: Result<Void, any Error>?
    }

    private struct State {
        var holders: [String: Holder] = [:]
        var copies: [String: Copy] = [:]
        var next: UInt64 = 0
    }

    private let patience: Duration
    private let grace: Duration
    private let state = Mutex(State())
    /// For the node's disks and processors: pods' images are large.
    package let writers = AsyncSemaphore(permits: 2)

    /// - Parameters:
    ///   - patience: how long one creation waits for a copy: less than the kubelet, and the pod's own deadline, give it.
    ///   - grace: how long a copy goes on that nobody asks for. A kubelet asks again within five minutes.
    package init(patience: Duration = .seconds(25), grace: Duration = .seconds(900)) {
        self.patience = patience
        self.grace = grace
    }

    deinit { state.withLock { $0.copies.values.map(\.task) }.forEach { $0.cancel() } }

    // MARK: Holders

    /// Takes the disk for the container. Another container of the pod may have it: a pod is one machine.
    ///
    /// - Throws: `failedPrecondition` naming the other pod whose machine has it, or will.
    package func hold(_ disk: RootDiskKey, pod: String, container: String) throws {
        try state.withLock { state in
            if let holder = state.holders[disk.name], holder.pod != pod {
                throw SwiftletError(
                    .failedPrecondition,
                    "\(disk.description) is held by container \(holder.container) of pod sandbox \(holder.pod), which has not ended"
                )
            }
            state.holders[disk.name] = Holder(pod: pod, container: container)
        }
    }

    package func letGo(container: String) {
        state.withLock { state in state.holders = state.holders.filter { $0.value.container != container } }
    }

    // MARK: Copies

    /// Waits for the image to be written to the disk, from the beginning unless that is under way.
    ///
    /// - Parameter work: is cancelled with its pod, and when nobody asks for it any more.
    /// - Throws: `unavailable` while it is under way; what the work throws, once.
    package func write(
        _ image: String, to disk: RootDiskKey, pod: String, _ work: @escaping @Sendable () async throws -> Void
    ) async throws {
        let number = try begin(image, disk, pod, work)
        let end = ContinuousClock.now + patience
        // Not by awaiting the task: a caller that is cancelled returns at once.
        while true {
            let outcome: Result<Void, any Error>? = state.withLock { state in
                guard let copy = state.copies[disk.name], copy.number == number else {
                    return .failure(SwiftletError(.aborted, "the copy to \(disk.description) was given up"))
                }
                guard let outcome = copy.outcome else { return nil }
                state.copies[disk.name] = nil
                return outcome
            }
            if let outcome { return try outcome.get() }
            guard ContinuousClock.now < end else {
                throw SwiftletError(
                    .unavailable, "its image is still being written to \(disk.description); the next attempt waits for the same copy")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func begin(
        _ image: String, _ disk: RootDiskKey, _ pod: String, _ work: @escaping @Sendable () async throws -> Void
    ) throws -> UInt64 {
        try state.withLock { state in
            // One that has ended, and that its own pod has not asked for, is in nobody's way.
            if let copy = state.copies[disk.name], copy.outcome == nil || copy.pod == pod && copy.image == image {
                guard copy.pod == pod, copy.image == image else {
                    throw SwiftletError(
                        .unavailable, "image \(copy.image) is being written to \(disk.description) for pod sandbox \(copy.pod)")
                }
                state.copies[disk.name]?.lastAsked = .now
                return copy.number
            }
            // As one user: the end of one would be the other's, too.
            if let other = state.copies.values.first(where: { $0.pod == pod && $0.outcome == nil }) {
                throw SwiftletError(
                    .unavailable, "image \(other.image) is being written to another root disk of pod sandbox \(pod): one is at a time")
            }
            state.next += 1
            let number = state.next
            let task = Task { try await work() }
            state.copies[disk.name] = Copy(number: number, pod: pod, image: image, task: task)
            Task { [weak self] in
                let outcome = await task.result
                self?.state.withLock { state in
                    guard state.copies[disk.name]?.number == number else { return }
                    state.copies[disk.name]?.outcome = outcome
                }
            }
            Task { [weak self] in await self?.giveUp(disk, number) }
            return number
        }
    }

    /// Ends a copy that nobody has asked for in a while, and forgets the outcome of one.
    private func giveUp(_ disk: RootDiskKey, _ number: UInt64) async {
        while true {
            let left: Duration? = state.withLock { state in
                guard let copy = state.copies[disk.name], copy.number == number else { return nil }
                return copy.lastAsked.duration(to: .now) < grace ? grace - copy.lastAsked.duration(to: .now) : .zero
            }
            guard let left else { return }
            guard left > .zero else { break }
            try? await Task.sleep(for: left)
        }
        await end { $0.number == number }
    }

    /// Ends the copies of a pod that is being stopped.
    package func cancel(pod: String) {
        let tasks = state.withLock { state in state.copies.values.filter { $0.pod == pod }.map(\.task) }
        for task in tasks { task.cancel() }
    }

    /// Ends the copies of a pod, and waits until they have ended and hold nothing any more.
    package func end(pod: String) async { await end { $0.pod == pod } }

    private func end(_ matches: (Copy) -> Bool) async {
        let copies = state.withLock { state in state.copies.filter { matches($0.value) } }
        for copy in copies.values { copy.task.cancel() }
        // Until it has ended, nobody begins another one on the same disk.
        for copy in copies.values { _ = await copy.task.result }
        state.withLock { state in
            for (name, copy) in copies where state.copies[name]?.number == copy.number { state.copies[name] = nil }
        }
    }
}
