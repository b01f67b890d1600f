import Concurrency
import Synchronization

/// The node's places for downloads: so many in all, and so many for each registry. A free place goes to the registry with the fewest
/// downloads, and of that registry to the pull with the fewest.
final class DownloadPlaces: Sendable {
    private struct Registry {
        let places: FairSemaphore<PullID>
        var users = 0
    }

    private let limits: DownloadLimits
    private let all: FairSemaphore<String>
    /// Registries that anybody waits for or downloads from.
    private let registries = Mutex<[String: Registry]>([:])

    init(_ limits: DownloadLimits) {
        self.limits = limits
        all = FairSemaphore(permits: limits.total)
    }

    /// Runs `body` in a place of the registry `host` and one of the node. They are taken in this order, so that who waits for a
    /// registry takes no place of the node's.
    func withPlace<Value: Sendable>(
        host: String, pull: PullID, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        let places = enter(host)
        defer { leave(host) }
        return try await places.withPermit(for: pull) {
            try await all.withPermit(for: host) { try await body() }
        }
    }

    private func enter(_ host: String) -> FairSemaphore<PullID> {
        registries.withLock { registries in
            var registry = registries[host] ?? Registry(places: FairSemaphore(permits: limits.perRegistry))
            registry.users += 1
            registries[host] = registry
            return registry.places
        }
    }

    private func leave(_ host: String) {
        registries.withLock { registries in
            guard var registry = registries[host] else { return }
            registry.users -= 1
            registries[host] = registry.users > 0 ? registry : nil
        }
    }
}
