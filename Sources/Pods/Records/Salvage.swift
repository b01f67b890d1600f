import Errors
import Foundation
import Glibc
import Runtime

/// What is known of a record that cannot be read: enough to list it, and to release what it holds by StopPodSandbox and
/// RemovePodSandbox.
enum Salvage {
    /// The kubelet's name of the sandbox where that part of the record is whole; else the id stands for the name.
    static func sandbox(_ found: PodStore.Found<SandboxDocument>) -> SandboxSpec {
        let metadata = part(of: found.bytes, as: SandboxSpec.Metadata.self)
        return SandboxSpec(metadata: metadata ?? SandboxSpec.Metadata(name: found.id, uid: "", namespace: "", attempt: 0))
    }

    /// An exited container with the reason.
    static func container(_ found: PodStore.Found<ContainerDocument>, in sandboxID: String, _ reason: SwiftletError) -> ContainerSnapshot {
        let metadata = part(of: found.bytes, as: ContainerSpec.Metadata.self)
        let exit = ContainerExit(
            code: 255, finishedAt: found.createdAt, reason: "ContainerStatusUnknown", message: "\(reason)")
        return ContainerSnapshot(
            id: found.id, sandboxID: sandboxID,
            spec: ContainerSpec(metadata: metadata ?? ContainerSpec.Metadata(name: found.id, attempt: 0), image: ""), imageID: "",
            state: .exited(startedAt: 0, exit), createdAt: found.createdAt, logPath: "", stopSignal: SIGTERM)
    }

    private static func part<Metadata: Decodable>(of document: Data, as type: Metadata.Type) -> Metadata? {
        try? JSONDecoder().decode(MetadataOnly<Metadata>.self, from: document).spec.metadata
    }
}

private struct MetadataOnly<Metadata: Decodable>: Decodable {
    struct Spec: Decodable {
        var metadata: Metadata
    }

    var spec: Spec
}
