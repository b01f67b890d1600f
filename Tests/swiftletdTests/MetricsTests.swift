import CRI
import CRIClient
import Errors
import Foundation
import GRPC
import Prometheus
import StreamControl
import Support
import Synchronization
import Testing

@testable import swiftletd

@Suite(.timeLimit(.minutes(5))) struct MetricsTests {
    @Test func anAddressThatOthersReachIsRefusedByItsKey() throws {
        var configuration = Configuration()
        #expect(try configuration.metricsAddress() == nil, "off by default")
        for good in ["tcp://127.0.0.1:9464", "tcp://[::1]:9464", "unix:///run/swiftlet/metrics.sock", "/run/swiftlet/metrics.sock"] {
            configuration.metrics.address = good
            #expect(try configuration.metricsAddress() != nil, "\(good)")
        }
        for bad in ["tcp://0.0.0.0:9464", "tcp://10.0.0.1:9464", "tcp://node:9464", "http://127.0.0.1:9464", "9464"] {
            configuration.metrics.address = bad
            let error = #expect(throws: SwiftletError.self) { try configuration.metricsAddress() }
            #expect(error?.code == .invalidArgument && error?.message.hasPrefix("metrics.address") == true, "\(bad)")
        }
    }

    /// They are swiftlet-streamd's, which may be started anew; a counter goes up only.
    @Test func whatBecameOfCollectedLinesIsCountedAcrossStreamDaemons() {
        let registry = PrometheusRegistry(DaemonMetrics.descriptions)
        let collectors = Mutex<[StreamCollector]>([])
        DaemonMetrics.observe({ collectors.withLock { $0 } }, in: registry)
        func text(_ sent: UInt64, _ dropped: UInt64, _ failure: String = "") -> String {
            collectors.withLock { collectors in
                collectors = [.with { ($0.kind, $0.sentLines, $0.droppedLines, $0.failure) = ("otlp", sent, dropped, failure) }]
            }
            return registry.text()
        }
        #expect(!registry.text().contains("collect"))
        _ = text(5, 1)
        let second = text(7, 1, "503")
        #expect(second.contains("swiftlet_collected_lines_total{collector=\"otlp\"} 7\n"), "\(second)")
        #expect(second.contains("swiftlet_collector_failing{collector=\"otlp\"} 1\n"))
        let third = text(2, 3)
        #expect(third.contains("swiftlet_collected_lines_total{collector=\"otlp\"} 9\n"))
        #expect(third.contains("swiftlet_collected_lines_dropped_total{collector=\"otlp\"} 4\n"))
        #expect(third.contains("swiftlet_collector_failing{collector=\"otlp\"} 0\n"))
    }

    /// The daemon's own process: what was called, pulled and booted is in its metrics, each line as the format has it.
    @Test func aScrapeShowsCallsPullsBootsAndPods() async throws {
        try await TestNode.with { node in
            let address = "unix://\(node.directory)/metrics.sock"
            let daemon = try node.launch(metrics: address)
            defer { daemon.end() }
            let cri = try node.connection()
            try await eventually("swiftletd serves: \(daemon.said)") {
                (try? await cri.call(RuntimeRPC.version, .init(), timeout: .seconds(2))) != nil
            }
            _ = try await cri.call(RuntimeRPC.listContainers, .init())
            await #expect(throws: GRPCStatus.self) { try await cri.call(RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = "feed" }) }
            // The daemon has no network.
            await #expect(throws: GRPCStatus.self) {
                try await cri.call(ImageRPC.pullImage, .with { $0.image.image = "127.0.0.1:1/absent:1" })
            }
            await #expect(throws: GRPCStatus.self) {
                try await cri.call(
                    RuntimeRPC.runPodSandbox,
                    .with { $0.config.metadata = .with { ($0.name, $0.uid, $0.namespace) = ("none", "u", "test") } })
            }
            let answer = try HTTPExchange("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", to: address)
            #expect(answer.status == 200)
            let metrics = try Exposition(answer.body)
            func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
                metrics.samples.first { $0.name == name && $0.labels == labels }?.value
            }
            #expect(value("swiftlet_rpc_total", ["method": "ListContainers", "code": "OK"]) == 1)
            #expect(value("swiftlet_rpc_total", ["method": "PodSandboxStatus", "code": "NOT_FOUND"]) == 1)
            let pulls = metrics.samples.filter { $0.name == "swiftlet_rpc_total" && $0.labels["method"] == "PullImage" }
            #expect(pulls.map(\.value) == [1] && pulls.first?.labels["code"] != "OK")
            #expect(value("swiftlet_rpc_duration_seconds_count", ["method": "ListContainers"]) == 1)
            #expect(value("swiftlet_rpc_duration_seconds_bucket", ["method": "PullImage", "le": "+Inf"]) == 1)
            #expect(value("swiftlet_image_pull_total", ["result": "failed"]) == 1)
            #expect(value("swiftlet_image_pull_duration_seconds_count") == 1)
            #expect(value("swiftlet_machine_boot_total", ["result": "ok"]) == nil, "libvirt's pretend driver boots nothing")
            #expect(value("swiftlet_pods", ["state": "ready"]) == 0 && value("swiftlet_containers", ["state": "running"]) == 0)
            #expect(value("swiftlet_ledger_releases_pending") != nil)
            #expect(metrics.types["swiftlet_rpc_duration_seconds"] == "histogram")
            #expect(Set(metrics.help.keys) == Set(metrics.types.keys), "each has its help")
            await cri.close()
        }
    }
}
