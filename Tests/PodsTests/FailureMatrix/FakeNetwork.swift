import Errors
import Linux
import PodNetwork
import Synchronization

@testable import Pods
@testable import Runtime

/// The node's network without plug-ins. It outlives the daemon.
final class FakeNetwork: NodeNetwork {
    private let held = Mutex<Set<String>>([])
    private let directory: String
    private let failure = Mutex<SwiftletError?>(nil)

    /// What every attachment fails with; nil: it does not.
    func fail(_ error: SwiftletError?) { failure.withLock { $0 = error } }

    init(directory: String) { self.directory = directory }

    /// Namespaces and attachments that exist.
    var existing: Set<String> { held.withLock { $0 } }

    func obstacle() async -> String? { nil }
    func collectGarbage() {}
    func check(_ request: PodNetworkRequest) async throws {}

    func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover] {
        // Attachments are named by their pods' whole ids.
        try existing.filter { $0.hasPrefix("attachment ") }.map { String($0.dropFirst("attachment ".count)) }.filter { !isKnown($0) }
            .flatMap { pod in
                [
                    try Leftover(pod: pod, kind: .networkNamespace, name: namespacePath(of: pod), document: EmptyDocument()),
                    try Leftover(pod: pod, kind: .networkAttachment, name: pod, document: EmptyDocument()),
                ]
            }
    }

    func configure(ranges: [IPPrefix]) async throws {}
    func namespacePath(of podID: String) -> String { "\(directory)/\(podID.prefix(13)).netns" }
    func createNamespace(path: String) async throws { held.withLock { _ = $0.insert("namespace \(path)") } }

    func attach(_ request: PodNetworkRequest) async throws -> AttachedNetwork {
        if let error = failure.withLock({ $0 }) { throw error }
        held.withLock { _ = $0.insert("attachment \(request.podID)") }
        return .sample
    }

    func join(
        tap: String, into namespacePath: String, with interface: AttachedInterface, annotations: [String: String]
    ) async throws {}

    var releasers: [ResourceReleaser] {
        [
            ResourceReleaser(.networkNamespace) { entry in self.held.withLock { _ = $0.remove("namespace \(entry.name)") } },
            ResourceReleaser(.networkAttachment) { entry in self.held.withLock { _ = $0.remove("attachment \(entry.name)") } },
        ]
    }
}
