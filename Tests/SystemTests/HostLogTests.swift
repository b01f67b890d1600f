import CRI
import Foundation
import GRPC
import Glibc
import Support
import Testing

private let hostConfiguration = """
    [host]
    [[host.handlers]]
    name = "host"
    runtime = "runc"
    namespaces = ["test"]
    """

/// Lines of pods on the node for collectors; nobody else reads conmon's files.
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized,
    .node("hostlogs", Node.Options(collects: true, logSize: 100_000, host: hostConfiguration)))
struct HostLogTests {
    private static let lines = 4000

    /// Through rotations and a kill of swiftlet-streamd, which the daemon starts again by itself.
    @Test func aContainersLinesReachACollectorThroughRotationsAndKills() async throws {
        let node = try node()
        let socket = try SocketCollector(path: node.collectorSocket)
        defer { socket.stop() }
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("collected")
        let script = """
            i=0; while [ $i -lt \(Self.lines) ]; do i=$((i+1)); echo "$i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
            [ $((i % 500)) -eq 0 ] && sleep 0.6; done; echo last >&2
            """
        let container = try await node.createContainer(in: pod, "host-speaker", ["/bin/sh", "-c", script]) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            $0.metadata.attempt = 2
        }
        try await node.start(container)
        let records = { socket.records.filter { ($0["kubernetes"] as? [String: Any])?["pod_name"] as? String == "collected" } }
        try await eventually("lines come: \(node.streamDaemonLog)") { records().count > 1000 }
        let streamd = try #require(node.streamDaemon)
        streamd.kill()
        #expect(try await node.exit(of: container).exitCode == 0)
        try await eventually("the last line comes: \(node.streamDaemonLog)") {
            records().contains { $0["stream"] as? String == "stderr" && $0["log"] as? String == "last" }
        }
        // conmon reads a line in pieces where it comes to the end of what it reads at once.
        var begun = ""
        let lines = records().filter { $0["stream"] as? String == "stdout" }.compactMap { record -> String? in
            begun += record["log"] as? String ?? ""
            guard record["logtag"] as? String == "F" else { return nil }
            defer { begun = "" }
            return begun
        }
        let numbers = lines.compactMap { Int($0.prefix { $0 != " " }) }
        #expect(Set(numbers) == Set(1...Self.lines), "\(Self.lines - Set(numbers).count) lines are missing")
        let names = records().last?["kubernetes"] as? [String: Any] ?? [:]
        #expect(names["container_name"] as? String == "host-speaker" && names["attempt"] as? Int == 2)
        #expect(names["container_id"] as? String == container)
        let files = try FileManager.default.contentsOfDirectory(atPath: node.logs).filter { $0.hasPrefix("host-speaker.log.") }
        #expect(!files.isEmpty, "it was rotated")
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }
}
