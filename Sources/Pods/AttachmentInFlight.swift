import Errors
import Runtime

/// The network of a pod whose start attaches it, or of one that is ready.
final class AttachmentInFlight: PodNetworkAttachment {
    let namespacePath: String?
    private let network: any NodeNetwork
    private let annotations: [String: String]
    private let work: Task<SandboxNetwork, any Error>

    /// - Parameter attach: begins at once.
    init(
        namespacePath: String?, network: any NodeNetwork, annotations: [String: String],
        _ attach: @escaping @Sendable () async throws -> SandboxNetwork
    ) {
        self.namespacePath = namespacePath
        self.network = network
        self.annotations = annotations
        work = Task { try await attach() }
    }

    /// A caller that is cancelled ends the attaching: all who wait belong to one start.
    func attached() async throws -> SandboxNetwork {
        try await withTaskCancellationHandler {
            try await work.value
        } onCancel: {
            work.cancel()
        }
    }

    func join(tap: String, with interface: AttachedInterface) async throws {
        guard try await attached().attached != nil, let namespacePath else {
            throw SwiftletError(.failedPrecondition, "a pod in the node's network has no interface to join \(tap) with")
        }
        try await network.join(tap: tap, into: namespacePath, with: interface, annotations: annotations)
    }

    /// Returns when nothing is attached any more.
    func end() async {
        work.cancel()
        _ = await work.result
    }
}
