import Concurrency
import Errors
import Foundation
import GRDB
import Linux
import Logging
import Runtime
import State
import Synchronization

/// The ranges as they are kept.
private struct PodRanges: StoredDocument {
    static let what = "node setting podCIDR"
    static let version = 2

    var ranges: [String]

    init(ranges: [String]) {
        self.ranges = ranges
    }

    init(stored record: NodeSettingRecord) throws {
        // Version 1 was the array alone.
        if let ranges = try? JSONDecoder().decode([String].self, from: record.document) {
            self.ranges = ranges
        } else {
            self = try PodRanges(stored: record.document)
        }
    }
}

/// What the kubelet says of the node. It says so once and not again after a restart of the daemon, so it is kept in the state
/// database.
final class NodeSettings: Sendable {
    /// The record's name.
    private static let podCIDR = "podCIDR"

    private let database: StateDatabase
    private let ranges = Mutex<[String]>([])
    private let changes = SerialQueue()

    init(database: StateDatabase) {
        self.database = database
    }

    /// Takes in what an earlier daemon received, and hands it to the network: its template may be another one by now. What cannot be
    /// read, or the network does not take, keeps nothing else from its recovery. Called once, before anything is set.
    func load(_ logger: Logger, apply: @Sendable ([IPPrefix]) async throws -> Void) async throws {
        guard let record = try await database.read({ try NodeSettingRecord.fetchOne($0, key: Self.podCIDR) }) else { return }
        do {
            let stored = try PodRanges(stored: record).ranges
            let prefixes = try stored.map(Self.range)
            ranges.withLock { $0 = stored }
            if !prefixes.isEmpty { try await apply(prefixes) }
        } catch {
            logger.error("node setting not taken over", metadata: ["name": "\(Self.podCIDR)", "error": "\(error)"])
        }
    }

    /// Ranges that pods get addresses from, as the kubelet said; empty when it has not said.
    var podCIDRs: [String] { ranges.withLock { $0 } }

    /// Keeps the ranges when `apply` has made them the network's. One change at a time.
    ///
    /// - Throws: `.invalidArgument` for what is no range; what `apply` throws.
    func setPodCIDRs(_ next: [String], apply: @escaping @Sendable ([IPPrefix]) async throws -> Void) async throws {
        let prefixes = try next.map(Self.range)
        try await changes.run {
            try await apply(prefixes)
            let record = NodeSettingRecord(name: Self.podCIDR, document: try PodRanges(ranges: next).stored())
            do {
                try await self.database.write(.addition) { try record.save($0) }
            } catch {
                throw SwiftletError(.internal, "save runtime_config.network_config.pod_cidr", cause: error)
            }
            self.ranges.withLock { $0 = next }
        }
    }

    private static func range(_ text: String) throws -> IPPrefix {
        guard text.contains("/"), let prefix = IPPrefix(text) else {
            throw SwiftletError(
                .invalidArgument,
                "runtime_config.network_config.pod_cidr: \(quoted(text)) is no range of addresses such as 10.244.0.0/24")
        }
        return prefix
    }
}

extension PodRegistry {
    /// Ranges that pods get addresses from, as the kubelet said; empty when it has not said.
    public var podCIDRs: [String] { context.settings.podCIDRs }

    /// Hands the ranges to the network and keeps them, across restarts too. Where the network's configuration is not made from a
    /// template, it alone decides what addresses pods get.
    ///
    /// - Throws: `.invalidArgument` for what is no range; `.failedPrecondition` when the network cannot be set up for them.
    public func setPodCIDRs(_ ranges: [String]) async throws {
        let network = context.network
        try await context.settings.setPodCIDRs(ranges) { try await network.configure(ranges: $0) }
    }
}
