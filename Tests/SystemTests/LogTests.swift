import CRI
import Foundation
import GRPC
import Support
import Testing

@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized,
    .node("logs", Node.Options(collects: true, logSize: 20_000_000)))
struct LongLogTests {
    /// 100 blocks of 16,384 numbered lines of 64 bytes, each block behind a line with its own number: 100 MiB, in files of 20 MB.
    @Test func aLogOf100MegabytesIsCompleteLineByLine() async throws {
        let node = try node()
        let pod = try await node.runPod("log")
        let script = """
            awk 'BEGIN { for (i = 1; i <= 16384; i++) printf "%-63d\\n", i }' > /tmp/block
            b=1; while [ $b -le 100 ]; do echo block $b; cat /tmp/block; b=$((b + 1)); done
            """
        let container = try await node.runContainer(in: pod, "big", ["/bin/sh", "-c", script])
        let followed = "\(node.root)/followed"
        let follower = try Self.follow(container, node, to: followed)
        defer { if follower.isRunning { kill(follower.processIdentifier, SIGKILL) } }
        let exit = try await node.exit(of: container, within: .seconds(600))
        #expect(exit.exitCode == 0)
        let names = try FileManager.default.contentsOfDirectory(atPath: node.logs)
        let files = names.filter { $0.hasPrefix("big.log.") }.sorted() + ["big.log"]
        #expect(files.count == 9)
        var data = Data()
        for file in files {
            let content = try Data(contentsOf: URL(fileURLWithPath: "\(node.logs)/\(file)"), options: .alwaysMapped)
            // 64 KiB of output make some 40 KiB more.
            #expect(content.count < 20_000_000 + 110_000 && (file == "big.log" || content.count >= 20_000_000), "\(file): \(content.count)")
            data += content
        }
        #expect(Self.firstGap(in: data) == nil)
        try await eventually("swiftlet logs -f ends") { !follower.isRunning }
        #expect(follower.terminationStatus == 0)
        #expect(Self.firstGap(in: try Data(contentsOf: URL(fileURLWithPath: followed), options: .alwaysMapped), prefix: 0) == nil)
        try await node.removePod(pod)
    }

    private static func follow(_ container: String, _ node: Node, to path: String) throws -> ChildProcess {
        try Data().write(to: URL(fileURLWithPath: path))
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: node.environment.build + "/swiftlet")
        process.arguments = ["--endpoint", node.endpoint, "logs", "-f", container]
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try process.run()
        return process
    }

    /// 4,000 lines of 100 bytes, of which a second's worth and one piece come at once.
    @Test func aLogKeepsToItsPodsBudgetAndLosesNothing() async throws {
        let node = try node()
        let pod = try await node.runPod("budget") { $0.annotations["swiftlet/log-bytes-per-second"] = "100000" }
        let script = "awk 'BEGIN { for (i = 1; i <= 4000; i++) printf \"%-99d\\n\", i }'"
        let began = ContinuousClock.now
        let container = try await node.runContainer(in: pod, "budget", ["/bin/sh", "-c", script])
        #expect(try await node.exit(of: container, within: .seconds(600)).exitCode == 0)
        #expect(ContinuousClock.now - began >= .milliseconds(2340))
        let log = try String(contentsOfFile: "\(node.logs)/budget.log", encoding: .utf8)
        let numbers = log.split(separator: "\n").map { $0.split(separator: " ").dropFirst(3).first.flatMap { Int($0) } }
        #expect(numbers == Array(1...4000))
        let refused = await #expect(throws: GRPCStatus.self) {
            _ = try await node.runPod("refused") { $0.annotations["swiftlet/log-bytes-per-second"] = "fast" }
        }
        #expect(refused?.code == .invalidArgument && refused?.message.contains("swiftlet/log-bytes-per-second") == true)
        try await node.removePod(pod)
    }

    /// 4,000 lines of 100 bytes at 1,000 bytes a second would take 400 s.
    @Test func whatABudgetHoldsUpIsWrittenBeforeTheContainerGoes() async throws {
        let node = try node()
        let pod = try await node.runPod("low") { $0.annotations["swiftlet/log-bytes-per-second"] = "1000" }
        let script = "awk 'BEGIN { for (i = 1; i <= 4000; i++) printf \"%-99d\\n\", i }'"
        let container = try await node.runContainer(in: pod, "low", ["/bin/sh", "-c", script])
        #expect(try await node.exit(of: container, within: .seconds(60)).exitCode == 0)
        try await node.removeContainer(container)
        let log = try String(contentsOfFile: "\(node.logs)/low.log", encoding: .utf8)
        let numbers = log.split(separator: "\n").map { $0.split(separator: " ").dropFirst(3).first.flatMap { Int($0) } }
        #expect(numbers == Array(1...4000))
        try await node.removePod(pod)
    }

    /// By a swiftlet-streamd that is confined: it resolves the receiver's name and connects.
    @Test func aContainersLinesReachBothCollectorsWithTheNamesOfItsPod() async throws {
        let node = try node()
        let socket = try SocketCollector(path: node.collectorSocket)
        defer { socket.stop() }
        let receiver = try HTTPCollector(port: Node.collectorPort)
        defer { receiver.stop() }
        let pod = try await node.runPod("collected")
        let script = "echo 'to \"out\"'; sleep 1; echo to err >&2; head -c 20000 /dev/zero | tr '\\0' a; echo"
        let container = try await node.runContainer(in: pod, "speaker", ["/bin/sh", "-c", script]) { $0.metadata.attempt = 2 }
        #expect(try await node.exit(of: container).exitCode == 0)
        let written =
            ["stdout F to \"out\"", "stderr F to err"]
            + [("P", 16384), ("F", 3616)].map {
                "stdout \($0) " + String(repeating: "a", count: $1)
            }
        #expect(try node.log("speaker").sorted() == written.sorted())
        let records = { Self.records(socket, of: "collected") }
        try await eventually("lines of JSON come: \(node.streamDaemonLog)") { records().count >= 4 }
        let lines = records().map { "\($0["stream"] ?? "") \($0["logtag"] ?? "") \($0["log"] ?? "")" }
        #expect(lines.sorted() == written.sorted())
        let file = try String(contentsOfFile: "\(node.logs)/speaker.log", encoding: .utf8).split(separator: "\n")
        #expect(records().map { $0["time"] as? String } == file.map { String($0.prefix { $0 != " " }) })
        let names = records().first?["kubernetes"] as? [String: Any] ?? [:]
        #expect(names["namespace_name"] as? String == "test" && names["pod_id"] as? String == "uid-collected")
        #expect(names["container_name"] as? String == "speaker" && names["container_id"] as? String == container)
        #expect(names["attempt"] as? Int == 2)

        let resources = { receiver.requests.flatMap { Self.resources($0) }.filter { $0.attributes["k8s.pod.name"] == "collected" } }
        try await eventually("a request comes: \(node.streamDaemonLog)") { resources().flatMap(\.bodies).count >= 4 }
        #expect(
            resources().flatMap(\.bodies).sorted() == written.map { $0.split(separator: " ", maxSplits: 2)[2] }.map(String.init).sorted())
        #expect(
            resources().first?.attributes == [
                "k8s.namespace.name": "test", "k8s.pod.name": "collected", "k8s.pod.uid": "uid-collected", "k8s.container.name": "speaker",
                "k8s.container.restart_count": "2", "container.id": container,
            ])
        try await node.removePod(pod)
    }

    private static func records(_ collector: SocketCollector, of pod: String) -> [[String: Any]] {
        collector.records.filter { ($0["kubernetes"] as? [String: Any])?["pod_name"] as? String == pod }
    }

    private static func resources(_ request: HTTPCollector.Request) -> [(attributes: [String: String], bodies: [String])] {
        let body = (try? JSONSerialization.jsonObject(with: Data(request.body))) as? [String: Any]
        return (body?["resourceLogs"] as? [[String: Any]] ?? []).map { resource in
            let pairs = (resource["resource"] as? [String: Any])?["attributes"] as? [[String: Any]] ?? []
            let attributes = pairs.map { ($0["key"] as? String ?? "", ($0["value"] as? [String: String])?.values.first ?? "") }
            let records = (resource["scopeLogs"] as? [[String: Any]] ?? []).flatMap { $0["logRecords"] as? [[String: Any]] ?? [] }
            let bodies = records.map { ($0["body"] as? [String: String])?["stringValue"] ?? "" }
            return (Dictionary(attributes) { first, _ in first }, bodies)
        }
    }

    /// The first line that is not what the container wrote; nil when all are there.
    ///
    /// - Parameter prefix: bytes before each line: "2026-01-02T03:04:05.000000006Z stdout F ".
    private static func firstGap(in log: Data, prefix: Int = 40) -> String? {
        var expected = (0..<100).lazy.flatMap { block in ["block \(block + 1)"] + Self.block }.makeIterator()
        for line in log.split(separator: 0x0A) {
            guard let text = expected.next() else { return "more lines than were written" }
            guard line.dropFirst(prefix).elementsEqual(text.utf8) else {
                return "\"\(String(decoding: line.prefix(120), as: UTF8.self))\" where \"\(text)\" was written"
            }
        }
        return expected.next().map { "the log ends before \"\($0)\"" }
    }

    private static let block = (1...16384).map { number in
        let digits = String(number)
        return digits + String(repeating: " ", count: 63 - digits.count)
    }
}
