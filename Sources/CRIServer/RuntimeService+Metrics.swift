import CRI
import GRPC
import Pods
import Runtime

extension CRIService {
    @Sendable func listMetricDescriptors(_ request: CRIListMetricDescriptorsRequest) async throws -> CRIListMetricDescriptorsResponse {
        .with { $0.descriptors = ContainerMetric.all.map(\.descriptor) + PodMetric.all.map(\.descriptor) }
    }

    @Sendable func listPodSandboxMetrics(_ request: CRIListPodSandboxMetricsRequest) async throws -> CRIListPodSandboxMetricsResponse {
        let metrics = await podMetrics()
        return .with { $0.podMetrics = metrics }
    }

    @Sendable func streamPodSandboxMetrics(_ request: CRIStreamPodSandboxMetricsRequest, _ writer: ResponseWriter) async throws {
        let replies = await podMetrics().map { metrics in CRIStreamPodSandboxMetricsResponse.with { $0.podSandboxMetrics = [metrics] } }
        try await ListReply.stream(replies, to: writer)
    }

    private func podMetrics() async -> [CRIPodSandboxMetrics] {
        let chosen = pods.sandboxes().map(\.snapshot).filter(\.isReady)
        let usages = await pods.usage(of: chosen, openFiles: true)
        return chosen.compactMap { sandbox in
            guard let usage = usages[sandbox.id], let pod = try? pods.pod(sandbox.id) else { return nil }
            return MetricMessage.pod(sandbox, pod.containers.map(\.snapshot), usage)
        }
    }
}

/// A pod's metrics as CRI messages.
enum MetricMessage {
    static func pod(_ sandbox: SandboxSnapshot, _ containers: [ContainerSnapshot], _ usage: PodUsage) -> CRIPodSandboxMetrics {
        let labels = ["", sandbox.id, "", "", sandbox.spec.metadata.namespace, sandbox.spec.metadata.name]
        return .with {
            $0.podSandboxID = sandbox.id
            $0.metrics = PodMetric.all.flatMap { metric in
                usage.interfaces.map { self.metric(metric.name, .counter, labels + [$0.name], metric.value($0), usage.time) }
            }
            $0.containerMetrics = containers.compactMap { snapshot in
                usage.containers[snapshot.id].map { container(snapshot, sandbox, $0, usage) }
            }
        }
    }

    private static func container(
        _ container: ContainerSnapshot, _ sandbox: SandboxSnapshot, _ usage: ContainerUsage, _ pod: PodUsage
    ) -> CRIContainerMetrics {
        let name = container.spec.metadata.name
        let image = container.spec.imageTag.isEmpty ? container.spec.image : container.spec.imageTag
        // In the order of `ContainerMetric.commonLabels`. A container's name by the runtime is its id.
        let labels = [name, container.id, image, container.id, sandbox.spec.metadata.namespace, sandbox.spec.metadata.name]
        let reading = ContainerReading(container: container, usage: usage, scratch: pod.scratch)
        return .with {
            $0.containerID = container.id
            $0.metrics = ContainerMetric.all.flatMap { metric in
                metric.values(reading).map { self.metric(metric.name, metric.type, labels + $0.labels, $0.value, usage.time) }
            }
        }
    }

    private static func metric(_ name: String, _ type: CRIMetricType, _ labels: [String], _ value: UInt64, _ time: Int64) -> CRIMetric {
        .with {
            $0.name = name
            $0.timestamp = time
            $0.metricType = type
            $0.labelValues = labels
            $0.value.value = value
        }
    }
}
