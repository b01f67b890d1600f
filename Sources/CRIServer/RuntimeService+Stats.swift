import CRI
import Errors
import GRPC
import Pods
import Runtime

extension CRIService {
    /// A container that does not run has its attributes and no figures.
    @Sendable func containerStats(_ request: CRIContainerStatsRequest) async throws -> CRIContainerStatsResponse {
        let container = try pods.container(request.containerID)
        var usage: ContainerUsage?
        if container.isRunning, let sandbox = try? pods.sandbox(container.sandboxID) {
            usage = await pods.usage(of: [sandbox])[sandbox.id]?.containers[container.id]
            guard usage != nil else { throw Self.silence("container \(container.id)") }
        }
        return .with { $0.stats = StatsMessage.container(container, usage, writableLayersAt: writableLayers) }
    }

    @Sendable func listContainerStats(_ request: CRIListContainerStatsRequest) async throws -> CRIListContainerStatsResponse {
        let stats = await stats(request.filter)
        return .with { $0.stats = stats }
    }

    @Sendable func streamContainerStats(_ request: CRIStreamContainerStatsRequest, _ writer: ResponseWriter) async throws {
        let replies = await stats(request.filter).map { stats in CRIStreamContainerStatsResponse.with { $0.containerStats = [stats] } }
        try await ListReply.stream(replies, to: writer)
    }

    @Sendable func podSandboxStats(_ request: CRIPodSandboxStatsRequest) async throws -> CRIPodSandboxStatsResponse {
        let (sandbox, containers) = try pods.pod(request.podSandboxID)
        guard sandbox.isReady else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(sandbox.id) is \(sandbox.state.name), not ready")
        }
        guard let usage = await pods.usage(of: [sandbox])[sandbox.id] else { throw Self.silence("pod sandbox \(sandbox.id)") }
        return .with { $0.stats = StatsMessage.sandbox(sandbox, containers.map(\.snapshot), usage, writableLayersAt: writableLayers) }
    }

    @Sendable func listPodSandboxStats(_ request: CRIListPodSandboxStatsRequest) async throws -> CRIListPodSandboxStatsResponse {
        let stats = await stats(request.filter)
        return .with { $0.stats = stats }
    }

    @Sendable func streamPodSandboxStats(_ request: CRIStreamPodSandboxStatsRequest, _ writer: ResponseWriter) async throws {
        let replies = await stats(request.filter).map { stats in CRIStreamPodSandboxStatsResponse.with { $0.podSandboxStats = [stats] } }
        try await ListReply.stream(replies, to: writer)
    }

    private static func silence(_ what: String) -> SwiftletError {
        SwiftletError(.unavailable, "\(what): its guest does not answer, and never has; is its machine frozen?")
    }

    /// Containers that run and whose guests have answered.
    private func stats(_ filter: CRIContainerStatsFilter) async -> [CRIContainerStats] {
        let chosen = pods.containers().map(\.snapshot).filter { container in
            container.isRunning && container.id.hasPrefix(filter.id) && container.sandboxID.hasPrefix(filter.podSandboxID)
                && container.spec.labels.match(filter.labelSelector)
        }
        let sandboxes = Set(chosen.map(\.sandboxID)).compactMap { try? pods.sandbox($0) }
        let usages = await pods.usage(of: sandboxes)
        return chosen.compactMap { container in
            usages[container.sandboxID]?.containers[container.id].map {
                StatsMessage.container(container, $0, writableLayersAt: writableLayers)
            }
        }
    }

    /// Pods that are ready and whose guests have answered.
    private func stats(_ filter: CRIPodSandboxStatsFilter) async -> [CRIPodSandboxStats] {
        let chosen = pods.sandboxes().map(\.snapshot).filter { sandbox in
            sandbox.isReady && sandbox.id.hasPrefix(filter.id) && sandbox.spec.labels.match(filter.labelSelector)
        }
        let usages = await pods.usage(of: chosen)
        return chosen.compactMap { sandbox in
            guard let usage = usages[sandbox.id], let pod = try? pods.pod(sandbox.id) else { return nil }
            return StatsMessage.sandbox(sandbox, pod.containers.map(\.snapshot), usage, writableLayersAt: writableLayers)
        }
    }

    /// A path on the node's filesystem that holds the writable layers' disks, by which a kubelet finds that filesystem.
    private var writableLayers: String { paths.root }
}

extension ContainerSnapshot {
    var isRunning: Bool {
        if case .running = state { true } else { false }
    }
}
