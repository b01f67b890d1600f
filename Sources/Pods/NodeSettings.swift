import Errors
import Foundation
import GRDB
import Linux
import State
import Synchronization

/// What the kubelet tells of the node. It tells once and not again after a restart of the daemon, so it is kept in the state
/// database.
final class NodeSettings: Sendable {
    /// The record's name.
    private static let podCIDR = "podCIDR"

    private let database: StateDatabase
    private let ranges = Mutex<[String]>([])

    init(database: StateDatabase) {
        self.database = database
    }

    /// Takes in what an earlier daemon was told. Called once, before anything is set.
    func load() async throws {
        guard let record = try await database.read({ try NodeSettingRecord.fetchOne($0, key: Self.podCIDR) }) else { return }
        let stored = try JSONDecoder().decode([String].self, from: record.document)
        ranges.withLock { $0 = stored }
    }

    /// Ranges that pods get addresses from, as the kubelet was told; empty when it has not said.
    var podCIDRs: [String] { ranges.withLock { $0 } }

    /// Keeps the ranges.
    ///
    /// - Throws: `.invalidArgument` for what is no range.
    func setPodCIDRs(_ next: [String]) async throws {
        for range in next {
            guard range.contains("/"), IPPrefix(range) != nil else {
                throw SwiftletError(
                    .invalidArgument,
                    "runtime_config.network_config.pod_cidr: \(Identifier.printable(range)) is no range of addresses such as 10.244.0.0/24")
            }
        }
        let record = NodeSettingRecord(name: Self.podCIDR, document: try JSONEncoder().encode(next))
        do {
            try await database.write { database in
                try record.save(database)
                // In the order of the writes.
                database.afterNextTransaction { _ in self.ranges.withLock { $0 = next } }
            }
        } catch {
            throw SwiftletError(.internal, "save runtime_config.network_config.pod_cidr", cause: error)
        }
    }
}

extension PodRegistry {
    /// Ranges that pods get addresses from, as the kubelet was told; empty when it has not said.
    public var podCIDRs: [String] { context.settings.podCIDRs }

    /// Keeps the ranges, across restarts too. The network's own configuration decides what addresses pods get.
    ///
    /// - Throws: `.invalidArgument` for what is no range.
    public func setPodCIDRs(_ ranges: [String]) async throws {
        try await context.settings.setPodCIDRs(ranges)
    }

    /// - Parameter name: of a handler; empty for the default one.
    public func features(ofHandler name: String) -> HandlerFeatures {
        handlers[name.isEmpty ? defaultHandler : name]?.features ?? HandlerFeatures()
    }
}
