import Errors
import Foundation
import Linux
import Synchronization

/// What the kubelet tells of the node. It tells once and not again after a restart of the daemon, so it is kept in a file.
final class NodeSettings: Sendable {
    private struct Document: Codable {
        var podCIDRs: [String] = []
    }

    private let path: String
    private let document: Mutex<Document>

    /// - Parameter directory: absolute; it may be missing until something is kept.
    init(directory: String) {
        path = directory + "/node.json"
        let stored = try? JSONDecoder().decode(Document.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        document = Mutex(stored ?? Document())
    }

    /// Ranges that pods get addresses from, as the kubelet was told; empty when it has not said.
    var podCIDRs: [String] { document.withLock { $0.podCIDRs } }

    /// Writes a file: not for the cooperative pool.
    ///
    /// - Throws: `.invalidArgument` for what is no range.
    func setPodCIDRs(_ ranges: [String]) throws {
        for range in ranges {
            guard range.contains("/"), IPPrefix(range) != nil else {
                throw SwiftletError(
                    .invalidArgument,
                    "runtime_config.network_config.pod_cidr: \(Identifier.printable(range)) is no range of addresses such as 10.244.0.0/24")
            }
        }
        let next = Document(podCIDRs: ranges)
        do {
            try JSONEncoder().encode(next).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw SwiftletError(.internal, "keep pod_cidr in \(path)", cause: error)
        }
        document.withLock { $0 = next }
    }
}

extension PodRegistry {
    /// Ranges that pods get addresses from, as the kubelet was told; empty when it has not said.
    public var podCIDRs: [String] { context.settings.podCIDRs }

    /// Keeps the ranges, across restarts too. The network's own configuration decides what addresses pods get.
    ///
    /// - Throws: `.invalidArgument` for what is no range.
    public func setPodCIDRs(_ ranges: [String]) async throws {
        let settings = context.settings
        try await OwnThread.run { try settings.setPodCIDRs(ranges) }
    }

    /// - Parameter name: of a handler; empty for the default one.
    public func features(ofHandler name: String) -> HandlerFeatures {
        handlers[name.isEmpty ? defaultHandler : name]?.features ?? HandlerFeatures()
    }
}
