import AgentProtocol
import Glibc
import Synchronization

/// The sizes of the containers' writable layers.
///
/// Small layers are counted when they are asked for; large ones in the background, one at a time and taking no more than a
/// twentieth of the time.
final class LayerSizes: Sendable {
    private struct Entry {
        var stats: AgentLayerStats?
        /// Seconds since boot before which it is not counted again.
        var due = 0.0
        var isCounting = false
    }

    /// Files of a layer that are counted while the caller waits: 2 ms on hardware.
    private static let atOnce = 2000
    /// Files of a layer that are counted at all; a larger layer has at least what was counted.
    private static let atMost = 2_000_000
    /// Seconds that a count stays good.
    private static let rest = 5.0
    private static let restPerSecond = 20.0

    private let workers: WorkerPool
    private let entries = Mutex<[String: Entry]>([:])
    private let isBusy = Atomic(false)

    init(workers: WorkerPool) {
        self.workers = workers
    }

    /// Forgets all containers but these.
    func keep(_ ids: Set<String>) {
        entries.withLock { entries in entries = entries.filter { ids.contains($0.key) } }
    }

    /// The size of a container's layer as counted last; nil before the first count is over.
    func size(of id: String, _ directory: String) -> AgentLayerStats? {
        let now = Self.now
        let isDue = entries.withLock { entries in
            guard !entries[id, default: Entry()].isCounting, entries[id, default: Entry()].due <= now else { return false }
            entries[id, default: Entry()].isCounting = true
            return true
        }
        if isDue { count(id, directory) }
        return entries.withLock { $0[id]?.stats }
    }

    private func count(_ id: String, _ directory: String) {
        guard let (stats, isComplete) = LayerWalk.count(directory, budget: Self.atOnce) else { return finish(id, nil, took: 0) }
        if isComplete { return finish(id, stats, took: 0) }
        guard isBusy.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else {
            return entries.withLock { $0[id]?.isCounting = false }
        }
        workers.run { [self] in
            let start = Self.now
            let result = Priority.behindContainers.during { LayerWalk.count(directory, budget: Self.atMost) }
            finish(id, result?.stats, took: Self.now - start)
            isBusy.store(false, ordering: .releasing)
        }
    }

    private func finish(_ id: String, _ stats: AgentLayerStats?, took: Double) {
        entries.withLock { entries in
            guard entries[id] != nil else { return }
            entries[id]?.isCounting = false
            entries[id]?.due = Self.now + max(Self.rest, took * Self.restPerSecond)
            if let stats { entries[id]?.stats = stats }
        }
    }

    private static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
