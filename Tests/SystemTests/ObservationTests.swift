import CRI
import CRIClient
import Errors
import Foundation
import GRPC
import Glibc
import Runtime
import Support
import Testing

/// One pod, and what a kubelet can learn of it.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("observe"))
struct ObservationTests {
    @Test func aPodCanBeWatchedMeasuredAndRotated() async throws {
        let node = try node()
        let events = try await Watcher(node)
        let pod = try await node.runPod("observed") { $0.labels = ["app": "seen"] }
        let work = """
            dd if=/dev/zero of=/data bs=1M count=3 2>/dev/null
            i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
            echo ready; sleep 600
            """
        let worker = try await node.runContainer(in: pod, "worker", ["/bin/sh", "-c", work]) {
            $0.labels = ["role": "worker"]
            $0.linux.resources.memoryLimitInBytes = 64 << 20
        }
        try await node.waitForLog("worker", lines: 1)
        try await checkContainerStats(node, pod, worker)
        try await checkPodStats(node, pod, worker)
        try await checkMetrics(node, pod, worker)
        try await checkStreams(node, pod, worker)
        try await checkFilters(node, pod, worker)
        try await checkRotation(node, pod)
        try await checkNode(node)
        try await checkVerbose(node, pod)
        try await checkEvents(node, events, pod, worker)
    }

    private func checkContainerStats(_ node: Node, _ pod: String, _ worker: String) async throws {
        let stats = try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = worker }).stats
        #expect(stats.attributes.id == worker && stats.attributes.metadata.name == "worker")
        #expect(stats.attributes.labels == ["role": "worker"])
        #expect(stats.cpu.usageCoreNanoSeconds.value > 0 && stats.cpu.hasUsageNanoCores)
        let memory = stats.memory
        #expect(memory.workingSetBytes.value > 0 && memory.workingSetBytes.value <= memory.usageBytes.value)
        #expect(memory.availableBytes.value == 64 << 20 - memory.workingSetBytes.value)
        #expect(memory.rssBytes.value > 0 && memory.pageFaults.value > 0)
        #expect(stats.hasSwap && stats.hasIo && memory.hasMajorPageFaults)
        for pressure in [stats.cpu.psi, memory.psi, stats.io.psi] { #expect(pressure.hasSome && pressure.hasFull) }
        #expect((3 << 20..<4 << 20).contains(stats.writableLayer.usedBytes.value), "\(stats.writableLayer)")
        #expect((2..<20).contains(stats.writableLayer.inodesUsed.value))
        #expect(stats.writableLayer.fsID.mountpoint == node.root)
        #expect(try await node.shell(worker, "cat /proc/pressure/cpu").hasPrefix("some avg10="))
        let missing = await #expect(throws: GRPCStatus.self) {
            try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = "abcdef" })
        }
        #expect(missing?.code == .notFound)
    }

    private func checkPodStats(_ node: Node, _ pod: String, _ worker: String) async throws {
        _ = try await node.shell(worker, "ping -c 1 -w 5 10.88.0.1")
        let stats = try await node.cri.call(RuntimeRPC.podSandboxStats, .with { $0.podSandboxID = pod }).stats
        #expect(stats.attributes.id == pod && stats.attributes.labels == ["app": "seen"])
        #expect(stats.linux.network.defaultInterface.name == "eth0")
        #expect(stats.linux.network.defaultInterface.txBytes.value > 0 && stats.linux.network.defaultInterface.rxBytes.value > 0)
        #expect(stats.linux.process.processCount.value >= 1)
        #expect(stats.linux.containers.map(\.attributes.id) == [worker])
        let container = try #require(stats.linux.containers.first)
        #expect(stats.linux.cpu.usageCoreNanoSeconds.value >= container.cpu.usageCoreNanoSeconds.value)
        #expect(stats.linux.memory.usageBytes.value >= container.memory.rssBytes.value)
    }

    private func checkMetrics(_ node: Node, _ pod: String, _ worker: String) async throws {
        let descriptors = try await node.cri.call(RuntimeRPC.listMetricDescriptors, .init()).descriptors
        let labels = Dictionary(descriptors.map { ($0.name, $0.labelKeys) }) { first, _ in first }
        #expect(labels.count == descriptors.count && descriptors.allSatisfy { !$0.help.isEmpty })
        let metrics = try await node.cri.call(RuntimeRPC.listPodSandboxMetrics, .init()).podMetrics
        let own = try #require(metrics.first { $0.podSandboxID == pod })
        let container = try #require(own.containerMetrics.first { $0.containerID == worker })
        for metric in own.metrics + container.metrics {
            #expect(labels[metric.name]?.count == metric.labelValues.count, "\(metric.name)")
            #expect(metric.labelValues.contains("observed") && metric.timestamp > 0)
        }
        let values = Dictionary(container.metrics.map { ($0.name, $0.value.value) }) { first, _ in first }
        #expect((values["container_memory_working_set_bytes"] ?? 0) > 0)
        #expect(values["container_spec_memory_limit_bytes"] == 64 << 20)
        #expect((values["container_fs_usage_bytes"] ?? 0) >= 3 << 20)
        #expect((values["container_file_descriptors"] ?? 0) > 0 && (values["container_processes"] ?? 0) > 0)
        #expect((values["container_start_time_seconds"] ?? 0) > 1_600_000_000)
        #expect(own.metrics.contains { $0.name == "container_network_transmit_bytes_total" && $0.value.value > 0 })
    }

    private func checkStreams(_ node: Node, _ pod: String, _ worker: String) async throws {
        let cri = try await node.cri
        #expect(try await all(cri.stream(RuntimeRPC.streamPodSandboxes, .init())).flatMap(\.podSandboxes).map(\.id) == [pod])
        #expect(try await all(cri.stream(RuntimeRPC.streamContainers, .init())).flatMap(\.containers).map(\.id) == [worker])
        let containers = try await all(cri.stream(RuntimeRPC.streamContainerStats, .init())).flatMap(\.containerStats)
        #expect(containers.map(\.attributes.id) == [worker])
        let pods = try await all(cri.stream(RuntimeRPC.streamPodSandboxStats, .init())).flatMap(\.podSandboxStats)
        #expect(pods.map(\.attributes.id) == [pod])
        let metrics = try await all(cri.stream(RuntimeRPC.streamPodSandboxMetrics, .init())).flatMap(\.podSandboxMetrics)
        #expect(metrics.map(\.podSandboxID) == [pod])
        let images = try await all(cri.stream(ImageRPC.streamImages, .init())).flatMap(\.images)
        #expect(images.contains { $0.repoTags.contains(Node.image) })
    }

    private func all<Message>(
        _ stream: AsyncThrowingMapSequence<AsyncThrowingStream<[UInt8], any Error>, Message>
    ) async throws -> [Message] {
        var messages: [Message] = []
        for try await message in stream { messages.append(message) }
        return messages
    }

    private func checkFilters(_ node: Node, _ pod: String, _ worker: String) async throws {
        let cri = try await node.cri
        func containers(_ change: (inout CRIContainerFilter) -> Void) async throws -> [String] {
            let filter = CRIContainerFilter.with(change)
            return try await cri.call(RuntimeRPC.listContainers, .with { $0.filter = filter }).containers.map(\.id)
        }
        #expect(try await containers { $0.id = String(worker.prefix(13)) } == [worker])
        #expect(try await containers { $0.podSandboxID = String(pod.prefix(13)) } == [worker])
        #expect(try await containers { $0.labelSelector = ["role": "other"] }.isEmpty)
        let both = try await containers {
            $0.id = worker
            $0.state.state = .containerExited
        }
        #expect(both.isEmpty)
        let unknown = await #expect(throws: GRPCStatus.self) { _ = try await containers { $0.state.state = .UNRECOGNIZED(77) } }
        #expect(unknown?.code == .invalidArgument && unknown?.message.contains("filter.state 77") == true)
        let stats = try await cri.call(RuntimeRPC.listContainerStats, .with { $0.filter.podSandboxID = String(pod.prefix(13)) }).stats
        #expect(stats.map(\.attributes.id) == [worker])
        #expect(try await cri.call(RuntimeRPC.listContainerStats, .with { $0.filter.labelSelector = ["role": "x"] }).stats.isEmpty)
        #expect(try await cri.call(RuntimeRPC.listPodSandboxStats, .with { $0.filter.labelSelector = ["app": "x"] }).stats.isEmpty)
        #expect(try await cri.call(RuntimeRPC.listPodSandboxStats, .with { $0.filter.id = String(pod.prefix(13)) }).stats.count == 1)
    }

    private func checkRotation(_ node: Node, _ pod: String) async throws {
        let script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; sleep 0.01; done"
        let ticker = try await node.runContainer(in: pod, "ticker", ["/bin/sh", "-c", script])
        try await node.waitForLog("ticker", lines: 20)
        try FileManager.default.moveItem(atPath: "\(node.logs)/ticker.log", toPath: "\(node.logs)/old.log")
        _ = try await node.cri.call(RuntimeRPC.reopenContainerLog, .with { $0.containerID = ticker })
        #expect(FileManager.default.fileExists(atPath: "\(node.logs)/ticker.log"))
        _ = try await node.exit(of: ticker)
        #expect(try node.log("old") + node.log("ticker") == (1...400).map { "stdout F line \($0)" })
        let ended = await #expect(throws: GRPCStatus.self) {
            try await node.cri.call(RuntimeRPC.reopenContainerLog, .with { $0.containerID = ticker })
        }
        #expect(ended?.code == .failedPrecondition && ended?.message.contains("exited") == true)
        let stats = try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = ticker }).stats
        #expect(stats.attributes.metadata.name == "ticker" && !stats.hasCpu)
    }

    private func checkNode(_ node: Node) async throws {
        let cri = try await node.cri
        _ = try await cri.call(RuntimeRPC.updateRuntimeConfig, .with { $0.runtimeConfig.networkConfig.podCidr = "10.244.1.0/24" })
        let wrong = await #expect(throws: GRPCStatus.self) {
            try await cri.call(RuntimeRPC.updateRuntimeConfig, .with { $0.runtimeConfig.networkConfig.podCidr = "nonsense" })
        }
        #expect(wrong?.code == .invalidArgument && wrong?.message.contains("pod_cidr") == true)
        let status = try await cri.call(RuntimeRPC.status, .with { $0.verbose = true })
        #expect(status.info["swiftlet"]?.contains("10.244.1.0/24") == true)
        let configuration = try JSONSerialization.jsonObject(with: Data((status.info["config"] ?? "").utf8)) as? [String: Any]
        #expect(configuration?["root"] as? String == node.root)
        #expect(status.runtimeHandlers.map(\.name) == ["", "microvm", "vm"])
        let driver = try await cri.call(RuntimeRPC.runtimeConfig, .init())
        #expect(driver.hasLinux && status.info["swiftlet"]?.contains("cgroupDriver") == true)
        try await checkOldVersion(node)
        let error = await #expect(throws: GRPCStatus.self) { _ = try await cri.call(RuntimeRPC.checkpointContainer, .init()) }
        #expect(error?.code == .unimplemented && error?.message.contains("CheckpointContainer") == true)
    }

    /// v1alpha2 answers as v1 does.
    private func checkOldVersion(_ node: Node) async throws {
        let (new, old) = (try await node.cri, try CRIConnection(endpoint: node.endpoint, version: .v1alpha2))
        #expect(try await old.call(RuntimeRPC.listPodSandbox, .init()) == new.call(RuntimeRPC.listPodSandbox, .init()))
        #expect(try await old.call(RuntimeRPC.listContainers, .init()) == new.call(RuntimeRPC.listContainers, .init()))
        #expect(try await old.call(ImageRPC.listImages, .init()) == new.call(ImageRPC.listImages, .init()))
        #expect(try await old.call(RuntimeRPC.listContainerStats, .init()).stats.count == 1)
        let worker = try await old.call(RuntimeRPC.listContainers, .with { $0.filter.labelSelector = ["role": "worker"] }).containers[0].id
        let result = try await old.call(
            RuntimeRPC.execSync,
            .with {
                $0.containerID = worker
                $0.cmd = ["/bin/echo", "alpha"]
            })
        #expect(result.stdout == Data("alpha\n".utf8))
        await old.close()
    }

    private func checkVerbose(_ node: Node, _ pod: String) async throws {
        let status = try await node.podStatus(pod, verbose: true)
        #expect(status.timestamp > 0 && status.containersStatuses.map(\.metadata.name) == ["worker", "ticker"])
        let cost = try JSONDecoder().decode([Cost].self, from: Data((status.info["hostCost"] ?? "").utf8))
        let machine = try #require(cost.first { $0.kind == "machine" })
        #expect(machine.cpuNanoseconds > 0 && machine.rssBytes > 1 << 20)
        #expect(cost.contains { $0.kind == "vsockDevice" })
        let details = try await node.details(of: pod)
        #expect(details["domain"]?.string?.isEmpty == false && details["state"] == "ready" && details["accelerator"] == "tcg")
        #expect(details["pid"] == .integer(Int64(machine.pid)))
        #expect(details["config"]?["metadata"]?["namespace"] == "test")
        #expect(FileManager.default.fileExists(atPath: details["console"]?.string ?? ""))
        let worker = try await node.cri.call(
            RuntimeRPC.containerStatus,
            .with {
                $0.containerID = status.containersStatuses[0].id
                $0.verbose = true
            })
        let container = try JSONDecoder().decode(JSONValue.self, from: Data((worker.info["info"] ?? "").utf8))
        #expect(container["pid"] == details["pid"] && container["config"]?["metadata"]?["name"] == "worker")
        #expect(status.info["guestUsage"]?.contains("memoryAvailableBytes") == true)
        #expect(try await node.podStatus(pod).info.isEmpty)
    }

    private struct Cost: Decodable {
        var kind: String
        var pid: Int32
        var cpuNanoseconds: UInt64
        var rssBytes: UInt64
    }

    private func checkEvents(_ node: Node, _ events: Watcher, _ pod: String, _ worker: String) async throws {
        _ = try await node.cri.call(RuntimeRPC.removeContainer, .with { $0.containerID = worker })
        try await node.stopPod(pod)
        try await node.removePod(pod)
        let seen = try await events.until { $0.containerID == pod && $0.containerEventType == .containerDeletedEvent }
        func kinds(_ id: String) -> [CRIContainerEventType] { seen.filter { $0.containerID == id }.map(\.containerEventType) }
        let life: [CRIContainerEventType] = [
            .containerCreatedEvent, .containerStartedEvent, .containerStoppedEvent, .containerDeletedEvent,
        ]
        #expect(kinds(pod) == life)
        #expect(kinds(worker) == life)
        #expect(seen.allSatisfy { $0.podSandboxStatus.metadata.uid == "uid-observed" })
        #expect(seen.map(\.createdAt) == seen.map(\.createdAt).sorted())
        let started = try #require(seen.first { $0.containerID == worker && $0.containerEventType == .containerStartedEvent })
        #expect(started.podSandboxStatus.state == .sandboxReady && !started.podSandboxStatus.network.ip.isEmpty)
        #expect(started.containersStatuses.map(\.state) == [.containerRunning])
        let stopped = try #require(seen.first { $0.containerID == worker && $0.containerEventType == .containerStoppedEvent })
        #expect(stopped.containersStatuses.first { $0.id == worker }?.exitCode == 137)
        let deleted = try #require(seen.last)
        #expect(deleted.podSandboxStatus.state == .sandboxNotready && deleted.containersStatuses.isEmpty)
    }

    // MARK: A frozen guest

    @Test func aFrozenGuestSlowsNobody() async throws {
        let node = try node()
        async let first = node.runPod("healthy")
        async let second = node.runPod("frozen")
        let (healthy, frozen) = try await (first, second)
        let sleeper = try await node.runContainer(in: healthy, "sleeper", ["/bin/sleep", "600"])
        let stuck = try await node.runContainer(in: frozen, "stuck", ["/bin/sleep", "600"])
        _ = try await node.cri.call(RuntimeRPC.listContainerStats, .init())
        _ = try await node.cri.call(RuntimeRPC.listPodSandboxStats, .init())
        let usual = try await median(node, healthy, sleeper, frozen)
        let machine = try await node.machine(of: frozen)
        #expect(kill(machine, SIGSTOP) == 0)
        defer { kill(machine, SIGCONT) }
        let during = try await median(node, healthy, sleeper, frozen)
        // Of its own kind: the test's machine may be busy, but a guest that is waited for takes seconds.
        #expect(during < usual * 5 + .milliseconds(50), "usually \(usual), now \(during)")

        let stats = try await node.cri.call(RuntimeRPC.listContainerStats, .init()).stats
        let known = try #require(stats.first { $0.attributes.id == stuck })
        let again = try await node.cri.call(RuntimeRPC.listContainerStats, .init()).stats
        #expect(again.first { $0.attributes.id == stuck }?.cpu.timestamp == known.cpu.timestamp)
        let fresh = try #require(again.first { $0.attributes.id == sleeper })
        #expect(fresh.cpu.timestamp > known.cpu.timestamp)
        #expect(try await node.cri.call(RuntimeRPC.listPodSandboxMetrics, .init()).podMetrics.map(\.podSandboxID) == [healthy])
        let pods = try await node.cri.call(RuntimeRPC.listPodSandboxStats, .init()).stats.map(\.attributes.id)
        #expect(Set(pods) == [healthy, frozen])
        let single = try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = stuck }).stats
        #expect(single.cpu.timestamp == known.cpu.timestamp)
        try await node.removePod(frozen)
        try await node.removePod(healthy)
    }

    /// The time of a round of lists and statuses of what is healthy.
    private func median(_ node: Node, _ pod: String, _ container: String, _ other: String) async throws -> Duration {
        var times: [Duration] = []
        for _ in 0..<11 {
            let start = ContinuousClock.now
            _ = try await node.cri.call(RuntimeRPC.listPodSandbox, .init())
            _ = try await node.cri.call(RuntimeRPC.listContainers, .init())
            _ = try await node.podStatus(pod)
            _ = try await node.status(of: container)
            _ = try await node.podStatus(other, verbose: true)
            _ = try await node.cri.call(RuntimeRPC.status, .init())
            _ = try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = container })
            _ = try await node.cri.call(RuntimeRPC.podSandboxStats, .with { $0.podSandboxID = pod })
            _ = try await node.cri.call(ImageRPC.listImages, .init())
            _ = try await node.cri.call(ImageRPC.imageFsInfo, .init())
            times.append(ContinuousClock.now - start)
        }
        return times.sorted()[times.count / 2]
    }
}

/// Reads a node's events from its start on.
private actor Watcher {
    private var events: [CRIContainerEventResponse] = []
    private var failure: (any Error)?
    private var reader: Task<Void, Never>?

    init(_ node: Node) async throws {
        let stream = try await node.cri.stream(RuntimeRPC.getContainerEvents, .init())
        reader = Task { [weak self] in
            do {
                for try await event in stream { await self?.take(event) }
            } catch {
                await self?.end(error)
            }
        }
        try await eventually("the daemon counts the watcher") {
            let info = try await node.cri.call(RuntimeRPC.status, .with { $0.verbose = true }).info["swiftlet"] ?? ""
            return info.contains("\"eventWatchers\":1,")
        }
    }

    deinit {
        reader?.cancel()
    }

    private func take(_ event: CRIContainerEventResponse) { events.append(event) }
    private func end(_ error: any Error) { failure = error }

    /// All events up to the first that `isLast` accepts.
    func until(_ isLast: (CRIContainerEventResponse) -> Bool) async throws -> [CRIContainerEventResponse] {
        var last: Int?
        try await eventually("the last event comes after \(events.count)") {
            last = events.firstIndex(where: isLast)
            if last == nil, let failure { throw failure }
            return last != nil
        }
        return Array(events[...(try #require(last))])
    }
}
