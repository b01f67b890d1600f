import CRI
import CRIClient
import Foundation
import Testing

@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(30)), .serialized, .node("many"))
struct ManyPodsTests {
    @Test func twentyPodsInARowLeaveNothing() async throws {
        let node = try node()
        // The first pod makes what the node keeps: the bridge and its rules.
        try await runOne(node, 0)
        let before = try await Footprint.now(node)
        for number in stride(from: 1, through: 20, by: 2) {
            async let first: Void = runOne(node, number)
            async let second: Void = runOne(node, number + 1)
            _ = try await (first, second)
        }
        try await before.expectNothingAdded(node)
        #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest()).items.isEmpty)
    }

    /// Its kernel has found the rate of its clock while the node was busy with the others' boots.
    private func checkThatTimePasses(in pod: String, _ node: Node) async throws {
        let container = try await node.runContainer(in: pod, "clock", ["/bin/sleep", "600"])
        func uptime() async throws -> (guest: Double, node: ContinuousClock.Instant) {
            let text = String(decoding: try await node.exec(container, ["/bin/cat", "/proc/uptime"]).stdout, as: UTF8.self)
            return (try #require(Double(text.prefix { $0 != " " })), .now)
        }
        let before = try await uptime()
        try await Task.sleep(for: .seconds(4))
        let after = try await uptime()
        let rate = (after.guest - before.guest) / ((after.node - before.node) / .seconds(1))
        // An answer may take a second on a busy node.
        #expect((0.7...1.3).contains(rate), "a second of the node is \(rate) s in the guest")
    }

    /// More than this machine can boot at a time; a container runs in each, and one of them lives by the older interface.
    @Test func eightPodsStartedAtOnceAllComeUp() async throws {
        let node = try node()
        let old = try CRIConnection(endpoint: node.endpoint, version: .v1alpha2)
        let cri = try await node.cri
        let pods = try await withThrowingTaskGroup(of: (Int, String).self) { group in
            for number in 0..<8 {
                let config = node.podConfig("at-once\(number)") {
                    $0.linux.resources.memoryLimitInBytes = 64 << 20
                    // What a kubelet does not say: a name, resolvers.
                    if number == 6 { ($0.hostname, $0.dnsConfig) = ("", CRIDNSConfig()) }
                    // Another attempt of the same pod.
                    if number == 7 { ($0.metadata.name, $0.metadata.uid, $0.metadata.attempt) = ("at-once6", "uid-at-once6", 1) }
                }
                group.addTask {
                    let connection = number == 0 ? old : cri
                    return (number, try await connection.call(RuntimeRPC.runPodSandbox, .with { $0.config = config }).podSandboxID)
                }
            }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        let listed = try await cri.call(RuntimeRPC.listPodSandbox, .with { $0.filter.state.state = .sandboxReady }).items.map(\.id)
        #expect(Set(listed) == Set(pods.values) && listed.count == 8)
        var addresses: Set<String> = []
        for pod in pods.values { addresses.insert(try await node.podStatus(pod).status.network.ip) }
        #expect(addresses.count == 8)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (number, pod) in pods {
                group.addTask {
                    let container = try await node.runContainer(in: pod, "at-once\(number)", ["/bin/echo", "pod \(number)"])
                    #expect(try await node.exit(of: container).exitCode == 0)
                    #expect(try node.log("at-once\(number)") == ["stdout F pod \(number)"])
                    try await checkThatTimePasses(in: pod, node)
                    _ = try await (number == 0 ? old : cri).call(RuntimeRPC.stopPodSandbox, .with { $0.podSandboxID = pod })
                    _ = try await (number == 0 ? old : cri).call(RuntimeRPC.removePodSandbox, .with { $0.podSandboxID = pod })
                }
            }
            try await group.waitForAll()
        }
        #expect(try await cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest()).items.isEmpty)
        await old.close()
    }

    private func runOne(_ node: Node, _ number: Int) async throws {
        let pod = try await node.runPod("pod\(number)")
        let container = try await node.runContainer(in: pod, "c\(number)", ["/bin/echo", "pod \(number)"])
        #expect(try await node.exit(of: container).exitCode == 0)
        #expect(try node.log("c\(number)") == ["stdout F pod \(number)"])
        try await node.removePod(pod)
    }
}
