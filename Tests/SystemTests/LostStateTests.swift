import CRI
import Errors
import Foundation
import GRPC
import Support
import Testing

/// A daemon that finds another state than the one it wrote.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized, .node("lost"))
struct LostStateTests {
    @Test func podsOfALostStateAreEndedWithAllThatTheyHoldAndLayersAreSetAside() async throws {
        let node = try node()
        let volume = node.root + "/logs/volume"
        try FileManager.default.createDirectory(atPath: volume, withIntermediateDirectories: true)
        func run(_ name: String) async throws -> String {
            let pod = try await node.runPod(name) {
                $0.portMappings = [
                    .with {
                        $0.containerPort = 80
                        $0.hostPort = 18080
                    }
                ]
            }
            _ = try await node.runContainer(in: pod, name, ["/bin/sleep", "6000"]) {
                $0.mounts = [
                    .with {
                        $0.hostPath = volume
                        $0.containerPath = "/volume"
                    }
                ]
            }
            return pod
        }
        // The plug-ins keep chains of iptables for good, by design.
        try await node.removePod(run("first"))
        let before = try await Footprint.now(node)
        let pod = try await run("lost")
        await node.kill()
        let state = node.root + "/state"
        for file in try FileManager.default.contentsOfDirectory(atPath: state) where file.hasPrefix("state.sqlite") {
            try FileManager.default.removeItem(atPath: "\(state)/\(file)")
        }
        try await node.launch()
        #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, .init()).items.isEmpty)
        var left: [String] = []
        try await eventually("what no record lists is released: \(left); daemon: \(node.tail(node.daemonLog))", within: .seconds(60)) {
            left = try await Footprint.now(node).added(since: before)
            return left.isEmpty
        }
        let log = try String(contentsOfFile: node.daemonLog, encoding: .utf8)
        #expect(log.contains("pods that no record lists are ended") && log.contains(String(pod.prefix(13))))
        #expect(log.contains("the files of layers were set aside"))
        #expect(try !FileManager.default.contentsOfDirectory(atPath: node.images + "/layers.lost").isEmpty)
        // The node goes on.
        try await node.loadSampleImage()
        let next = try await node.runPod("next")
        let container = try await node.runContainer(in: next, "next", ["/bin/echo", "here"])
        #expect(try await node.exit(of: container).exitCode == 0)
        try await node.removePod(next)
    }

    @Test func aStateThatIsNoDatabaseIsRefusedWithWhatToDo() async throws {
        let node = try Node("garbage")
        try FileManager.default.createDirectory(atPath: node.root + "/state", withIntermediateDirectories: true)
        try String(repeating: "not a database\n", count: 1000).write(
            toFile: node.root + "/state/state.sqlite", atomically: true, encoding: .utf8)
        let error = await #expect(throws: SwiftletError.self) { try await node.start() }
        #expect(error?.message.contains("move it away") == true, "\(String(describing: error))")
        await node.destroy()
    }
}
