import Synchronization

/// The node's places for downloads: so many in all, and so many for each registry.
final class DownloadPlaces: Sendable {
    private struct Host {
        let gate: Gate
        var users = 0
    }

    private let limits: DownloadLimits
    private let all: Gate
    /// Registries that anybody waits for or downloads from.
    private let hosts = Mutex<[String: Host]>([:])

    init(_ limits: DownloadLimits) {
        self.limits = limits
        all = Gate(width: limits.total)
    }

    /// Runs `body` in a place of the registry `host` and one of the node. They are taken in this order, so that who waits for a
    /// registry takes no place of the node's.
    func pass<Value: Sendable>(host: String, _ body: @Sendable () async throws -> Value) async throws -> Value {
        let gate = enter(host)
        defer { leave(host) }
        return try await gate.pass {
            try await all.pass(body)
        }
    }

    private func enter(_ name: String) -> Gate {
        hosts.withLock { hosts in
            var host = hosts[name] ?? Host(gate: Gate(width: limits.perRegistry))
            host.users += 1
            hosts[name] = host
            return host.gate
        }
    }

    private func leave(_ name: String) {
        hosts.withLock { hosts in
            guard var host = hosts[name] else { return }
            host.users -= 1
            hosts[name] = host.users > 0 ? host : nil
        }
    }
}

/// The places of one pull or load.
struct PullPlaces: Sendable {
    /// Layers on their way or being converted.
    let layers: Gate
    let conversions: Gate

    init(_ configuration: ImageStoreConfiguration) {
        layers = Gate(width: configuration.downloads.perPull)
        conversions = Gate(width: configuration.maxConversions - 1)
    }
}
