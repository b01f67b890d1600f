import CRI
import Foundation
import GRPC
import Runtime
import Synchronization
import Testing

@testable import CRIServer
@testable import Pods

@Suite struct ObservationMessageTests {
    private static let cgroup = CgroupUsage.with {
        $0.cpu.usageUs = 3_500_000
        $0.cpu.quotaUs = 50000
        $0.cpu.weight = 39
        $0.memory.usageBytes = 1000
        $0.memory.inactiveFileBytes = 300
        $0.memory.limitBytes = 2000
        $0.memory.anonymousBytes = 600
        $0.memory.swapLimitBytes = 50
        $0.memory.swapBytes = 20
        $0.threadsLimit = 9
        $0.io = [.with { $0.name = "sda" }]
        $0.hugepages = [.with { $0.size = "2MB" }]
        $0.memoryPressure.full.totalUs = 4_000_000
    }

    private static let container = ContainerSnapshot(
        id: "c", sandboxID: "p", spec: ContainerSpec(metadata: .init(name: "web", attempt: 0), image: "i"), imageID: "sha256:i",
        state: .running(startedAt: 5_000_000_000), createdAt: 1, logPath: "", stopSignal: 15)

    private static let usage = ContainerUsage(
        time: 7_000_000_000, cgroup: cgroup, nanoCores: 42, writableLayer: .with { $0.usedBytes = 77 },
        processes: .with { $0.openFilesLimit = 1024 })

    /// `swiftlet doctor` reads these names.
    @Test func theNodesDetailsHaveTheirTypes() throws {
        var pool = PoolFigures([
            PoolFigures.Shape(memoryBytes: 1024, vcpus: 1, size: 2), PoolFigures.Shape(memoryBytes: 2048, vcpus: 2, size: 1),
        ])
        (pool.misses, pool.failures) = (5, 1)
        pool.update(0) { ($0.waiting, $0.hits) = (1, 4) }
        pool.update(1) { ($0.waiting, $0.hits, $0.obstacle) = (1, 3, "full") }
        let details = NodeDetails(
            version: "1", handlers: ["microvm"], cgroupDriver: "systemd", eventWatchers: 2, podCIDRs: ["10.0.0.0/24"], kernel: "/k",
            initramfs: "/i", root: "/var", run: "/run", pools: ["microvm": pool])
        let expected: [String: JSONValue] = [
            "version": "1", "handlers": .array(["microvm"]), "cgroupDriver": "systemd", "eventWatchers": 2,
            "podCIDRs": .array(["10.0.0.0/24"]), "kernel": "/k", "initramfs": "/i", "root": "/var", "run": "/run",
            "pools": .object([
                "microvm": .object([
                    "size": 3, "waiting": 2, "hits": 7, "misses": 5, "failures": 1, "obstacle": "full",
                    "shapes": .array([
                        .object(["memoryBytes": 1024, "vcpus": 1, "size": 2, "waiting": 1, "hits": 4]),
                        .object(["memoryBytes": 2048, "vcpus": 2, "size": 1, "waiting": 1, "hits": 3, "obstacle": "full"]),
                    ]),
                ])
            ]),
        ]
        #expect(try JSONDecoder().decode([String: JSONValue].self, from: Data(VerboseInfo.json(details).utf8)) == expected)
    }

    private static func sandbox(_ name: String = "pod") -> SandboxSnapshot {
        SandboxSnapshot(
            id: "p", spec: SandboxSpec(metadata: .init(name: name, uid: "u", namespace: "default", attempt: 0)), state: .reserved,
            createdAt: 1)
    }

    private static let pod = PodUsage(
        time: 7_000_000_000, cgroup: cgroup, nanoCores: 1, containers: ["c": usage],
        interfaces: ["eth0", "eth1"].map { name in .with { $0.name = name } }, scratch: DiskUsage(), guestMemory: (1, 1))

    @Test func memoryIsCountedAsTheKubeletExpects() {
        let stats = StatsMessage.container(Self.container, Self.usage, writableLayersAt: "/root")
        #expect(stats.memory.workingSetBytes.value == 700)
        #expect(stats.memory.availableBytes.value == 1300)
        #expect(stats.memory.rssBytes.value == 600)
        #expect(stats.swap.swapUsageBytes.value == 20 && stats.swap.swapAvailableBytes.value == 30)
        #expect(stats.cpu.usageCoreNanoSeconds.value == 3_500_000_000 && stats.cpu.usageNanoCores.value == 42)
        #expect(stats.memory.psi.full.total == 4_000_000)
        #expect(stats.writableLayer.usedBytes.value == 77 && stats.writableLayer.fsID.mountpoint == "/root")
        var unlimited = Self.usage
        unlimited.cgroup.memory.limitBytes = nil
        #expect(!StatsMessage.container(Self.container, unlimited, writableLayersAt: "").memory.hasAvailableBytes)
        let stopped = StatsMessage.container(Self.container, nil, writableLayersAt: "")
        #expect(stopped.attributes.id == "c" && !stopped.hasCpu && !stopped.hasMemory)
    }

    @Test func everyMetricHasADescriptorWithItsLabels() {
        let descriptors = ContainerMetric.all.map(\.descriptor) + PodMetric.all.map(\.descriptor)
        let labels = Dictionary(descriptors.map { ($0.name, $0.labelKeys) }) { first, _ in first }
        #expect(labels.count == descriptors.count)
        let message = MetricMessage.pod(Self.sandbox(), [Self.container], Self.pod)
        let container = message.containerMetrics[0].metrics
        for metric in message.metrics + container { #expect(labels[metric.name]?.count == metric.labelValues.count, "\(metric.name)") }
        // All but the name of the interface's family appear.
        #expect(Set(container.map(\.name)) == Set(ContainerMetric.all.map(\.name)))
        #expect(message.metrics.count == PodMetric.all.count * 2)
        let values = Dictionary(container.map { ($0.name, $0.value.value) }) { first, _ in first }
        #expect(values["container_cpu_usage_seconds_total"] == 3)
        #expect(values["container_pressure_memory_stalled_seconds_total"] == 4)
        #expect(values["container_start_time_seconds"] == 5 && values["container_last_seen"] == 7)
        var unlimited = Self.pod
        unlimited.containers["c"]?.cgroup.threadsLimit = nil
        let names = MetricMessage.pod(Self.sandbox(), [Self.container], unlimited).containerMetrics[0].metrics.map(\.name)
        #expect(names.contains("container_threads_max"))
        // 1024 shares became weight 39; the way back loses what rounding lost.
        #expect((990...1030).contains(values["container_spec_cpu_shares"] ?? 0))
    }

    @Test func aListMayBeLongerThanAMessage() async throws {
        let items = (0..<3000).map { number in
            CRIPodSandbox.with {
                $0.id = "id-\(number)"
                $0.annotations = ["note": String(repeating: "x", count: number % 700)]
            }
        }
        let pieces = Mutex<[[UInt8]]>([])
        let replies = items.map { item in CRIStreamPodSandboxesResponse.with { $0.podSandboxes = [item] } }
        try await ListReply.stream(replies, to: ResponseWriter { piece in pieces.withLock { $0.append(piece) } })
        let sent = pieces.withLock { $0 }
        #expect(sent.count > 10 && sent.allSatisfy { $0.count <= 64 << 10 })
        let received = try sent.flatMap { try CRIStreamPodSandboxesResponse(serializedBytes: $0).podSandboxes }
        #expect(received == items)
        try await ListReply.stream(
            [CRIStreamPodSandboxesResponse](), to: ResponseWriter { _ in Issue.record("an empty list has no message") })
    }

    /// The kubelet's lists and the streamed ones share each item's encoding.
    @Test func anItemsOneEncodingServesListAndStream() async throws {
        let sandboxes = ["a", "b"].map { ListEntry(Self.sandbox($0)) }
        let bytes = try ListReply.bytes(sandboxes, SandboxMessage.list)
        #expect(try CRIListPodSandboxResponse(serializedBytes: bytes).items.map(\.metadata.name) == ["a", "b"])
        #expect(try CRIStreamPodSandboxesResponse(serializedBytes: bytes).podSandboxes.map(\.metadata.name) == ["a", "b"])
        let containers = try ListReply.bytes([ListEntry(Self.container)], ContainerMessage.list)
        #expect(try CRIListContainersResponse(serializedBytes: containers).containers == [ContainerMessage.item(Self.container)])
        #expect(try CRIStreamContainersResponse(serializedBytes: containers).containers == [ContainerMessage.item(Self.container)])
    }

    @Test func anEventCarriesThePodOfWhichItTells() {
        let event = PodEvent(id: "p", kind: .deleted, time: 9, sandbox: Self.sandbox("gone"), containers: [])
        let message = EventMessage.message(event)
        #expect(message.containerID == "p" && message.containerEventType == .containerDeletedEvent && message.createdAt == 9)
        #expect(message.podSandboxStatus.metadata.name == "gone" && message.podSandboxStatus.state == .sandboxNotready)
    }
}
