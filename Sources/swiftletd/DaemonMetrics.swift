import CoreMetrics
import Pods
import Prometheus
import StreamControl
import SwiftletVersion
import Synchronization

/// What a scrape finds. docs/metrics.md lists it.
enum DaemonMetrics {
    static let descriptions = [
        MetricDescription("swiftlet_build_info", "1, with the version of swiftletd as a label."),
        MetricDescription("swiftlet_rpc_total", "CRI calls that have ended, by method and gRPC code."),
        MetricDescription("swiftlet_rpc_duration_seconds", "How long CRI calls took, by method."),
        MetricDescription("swiftlet_machine_boot_total", "Boots of virtual machines that have ended, by result: ok or failed."),
        MetricDescription(
            "swiftlet_machine_boot_duration_seconds", "From the request for a machine to its agent's answer, the wait for a turn included."),
        MetricDescription(
            "swiftlet_pool_start_total",
            "Starts of pods on a node with a pool, by result: hit, miss, or failed (another machine was booted)."),
        MetricDescription(
            "swiftlet_pool_machines",
            "Machines that wait for pods, by their size and by state: waiting, or missing to the configured number."),
        MetricDescription("swiftlet_image_pull_total", "Pulls of images that have ended, by result: ok or failed; joined ones count once."),
        MetricDescription("swiftlet_image_pull_duration_seconds", "How long pulls of images took."),
        MetricDescription("swiftlet_ledger_releases_pending", "Resources of pods whose release failed and is tried again."),
        MetricDescription("swiftlet_pods", "Pod sandboxes by state."),
        MetricDescription("swiftlet_containers", "Containers by state."),
        MetricDescription("swiftlet_collected_lines_total", "Lines of logs that a collector has taken, by collector: socket or otlp."),
        MetricDescription("swiftlet_collected_lines_dropped_total", "Lines of logs that a collector did not get, by collector."),
        MetricDescription("swiftlet_collector_failing", "1 while a collector takes no lines, by collector."),
        MetricDescription("swiftlet_pods_stopped", "Ready pod sandboxes whose machine is stopped, by want of room for its disk."),
    ]

    /// Sets at each scrape what is not counted as it happens.
    static func observe(_ pods: PodRegistry, in registry: PrometheusRegistry) {
        Gauge(label: "swiftlet_build_info", dimensions: [("version", swiftletVersion)], factory: registry).record(1)
        let podStates = StateGauge(name: "swiftlet_pods", states: ["ready"], factory: registry)
        let containerStates = StateGauge(name: "swiftlet_containers", states: ["running"], factory: registry)
        registry.collect {
            let sandboxes = pods.sandboxes().map(\.snapshot)
            podStates.record(sandboxes.map(\.state.name))
            containerStates.record(pods.containers().map(\.snapshot.state.name))
            Gauge(label: "swiftlet_ledger_releases_pending", factory: registry).record(
                sandboxes.reduce(0) { $0 + $1.pendingReleases.count })
            for pool in pods.pools.values {
                for shape in pool.shapes {
                    for (state, count) in [("waiting", shape.waiting), ("missing", max(0, shape.size - shape.waiting))] {
                        let labels = [("state", state), ("memory_mib", "\(shape.memoryBytes >> 20)"), ("vcpus", "\(shape.vcpus)")]
                        Gauge(label: "swiftlet_pool_machines", dimensions: labels, factory: registry).record(count)
                    }
                }
            }
            Gauge(label: "swiftlet_pods_stopped", factory: registry).record(sandboxes.count { $0.halt != nil })
        }
    }
}

extension DaemonMetrics {
    /// What swiftlet-streamd says of the collectors.
    ///
    /// - Parameter collectors: asked at each scrape.
    static func observe(_ collectors: @escaping @Sendable () -> [StreamCollector], in registry: PrometheusRegistry) {
        let counted = Mutex<[String: StreamCollector]>([:])
        registry.collect {
            counted.withLock { counted in
                for collector in collectors() {
                    let dimensions = [("collector", collector.kind)]
                    var former = counted[collector.kind] ?? StreamCollector()
                    // A swiftlet-streamd that was started anew, or has another collector, begins at 0.
                    if collector.sentLines < former.sentLines || collector.droppedLines < former.droppedLines { former = StreamCollector() }
                    for (label, number) in [
                        ("swiftlet_collected_lines_total", collector.sentLines - former.sentLines),
                        ("swiftlet_collected_lines_dropped_total", collector.droppedLines - former.droppedLines),
                    ] { Counter(label: label, dimensions: dimensions, factory: registry).increment(by: number) }
                    Gauge(label: "swiftlet_collector_failing", dimensions: dimensions, factory: registry).record(
                        collector.failure.isEmpty ? 0 : 1)
                    counted[collector.kind] = collector
                }
            }
        }
    }
}

/// How many are in each state.
private final class StateGauge: Sendable {
    private let name: String
    private let factory: any MetricsFactory
    /// Every state that was shown once: it is shown as 0 when nothing is in it any more.
    private let states: Mutex<Set<String>>

    init(name: String, states: Set<String>, factory: any MetricsFactory) {
        self.name = name
        self.states = Mutex(states)
        self.factory = factory
    }

    func record(_ states: [String]) {
        let counts = Dictionary(states.map { ($0, 1) }, uniquingKeysWith: +)
        let shown = self.states.withLock { known in
            known.formUnion(counts.keys)
            return known
        }
        for state in shown { Gauge(label: name, dimensions: [("state", state)], factory: factory).record(counts[state] ?? 0) }
    }
}
