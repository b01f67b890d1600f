import CRI
import Foundation
import GRPC
import Support
import Testing

/// Containers that take all they can get. The agent must answer all the while, and a neighbour in the same machine runs on.
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(30)), .serialized,
    .node("hostile", Node.Options(scratch: 1), pod: podWithANeighbour))
struct HostileLoadTests {
    /// The suite's pod with its neighbour.
    private func shared() async throws -> (Node, String, String) {
        let (node, pod) = (try node(), try sharedPod())
        let list = try await node.cri.call(RuntimeRPC.listContainers, .init()).containers
        return (node, pod, try #require(list.first { $0.metadata.name == "neighbour" && $0.state == .containerRunning }).id)
    }

    private func expectAnswer(_ node: Node, _ neighbour: String, _ load: String) async throws {
        #expect(try await node.shell(neighbour, "echo here") == "here\n", "during \(load)")
    }

    @Test func memoryWithoutALimit() async throws {
        let (node, pod, neighbour) = try await shared()
        let eater = try await node.runContainer(in: pod, "eater", ["/bin/tail", "/dev/zero"]) { $0.linux.resources.oomScoreAdj = 1000 }
        try await expectAnswer(node, neighbour, "memory")
        let exit = try await node.exit(of: eater)
        #expect(exit.reason == "OOMKilled" && exit.exitCode == 137, "\(exit.reason) \(exit.exitCode)")
        try await expectAnswer(node, neighbour, "memory")
    }

    @Test func memoryWithALimit() async throws {
        let (node, pod, neighbour) = try await shared()
        let eater = try await node.runContainer(in: pod, "limited", ["/bin/tail", "/dev/zero"]) {
            $0.linux.resources.memoryLimitInBytes = 24 << 20
        }
        let exit = try await node.exit(of: eater)
        #expect(exit.reason == "OOMKilled" && exit.exitCode == 137, "\(exit.reason) \(exit.exitCode)")
        let exec = await #expect(throws: GRPCStatus.self) { try await node.exec(eater, ["/bin/true"]) }
        #expect(exec?.code == .failedPrecondition && exec?.message.contains("exited") == true)
        // The least that is taken starts a program.
        let least = try await node.runContainer(in: pod, "least", ["/bin/true"]) { $0.linux.resources.memoryLimitInBytes = 1 << 20 }
        #expect(try await node.exit(of: least).exitCode == 0)
    }

    @Test func forksWithoutEnd() async throws {
        let (node, pod, neighbour) = try await shared()
        let script = "echo ready; f() { f | f & }; while true; do f 2>/dev/null; sleep 0.1; done"
        for (name, limit) in [("bomb", "30"), ("unlimited-bomb", "")] {
            let bomb = try await node.runContainer(in: pod, name, ["/bin/sh", "-c", script]) {
                if !limit.isEmpty { $0.linux.resources.unified = ["pids.max": limit] }
            }
            for _ in 0..<5 { try await expectAnswer(node, neighbour, name) }
            _ = try await node.cri.call(RuntimeRPC.stopContainer, .with { $0.containerID = bomb })
            #expect(try await node.exit(of: bomb).exitCode != 0)
            try await expectAnswer(node, neighbour, name)
            try await node.removeContainer(bomb)
        }
    }

    @Test func aFullDisk() async throws {
        let (node, pod, neighbour) = try await shared()
        let filler = try await node.runContainer(
            in: pod, "filler", ["/bin/sh", "-c", "fallocate -l 900m /most; dd if=/dev/zero of=/rest bs=1M; echo full; sleep 6000"])
        try await node.waitForLog("filler", line: "full")
        #expect(try node.log("filler").contains { $0.contains("No space left") })
        try await expectAnswer(node, neighbour, "a full disk")
        // The pod's containers share the disk: another one is refused for its true reason, and made when there is room again.
        let full = await #expect(throws: GRPCStatus.self) { try await node.createContainer(in: pod, "other", ["/bin/true"]) }
        #expect(full?.code == .resourceExhausted && full?.message.contains("No space left") == true, "\(String(describing: full))")
        try await node.removeContainer(filler)
        // The guest deletes files behind the answer.
        try await eventually("the removed container's files leave the disk") {
            try await node.shell(neighbour, "dd if=/dev/zero of=/again bs=1M count=50 2>/dev/null && echo fits; rm /again") == "fits\n"
        }
        let other = try await node.runContainer(in: pod, "other", ["/bin/echo", "made"])
        #expect(try await node.exit(of: other).exitCode == 0)
    }

    @Test func aLongLine() async throws {
        let (node, pod, neighbour) = try await shared()
        let writer = try await node.runContainer(
            in: pod, "line", ["/bin/sh", "-c", "dd if=/dev/zero bs=64k count=16384 2>/dev/null; echo; echo end"])
        try await expectAnswer(node, neighbour, "a long line")
        #expect(try await node.exit(of: writer, within: .seconds(400)).exitCode == 0)
        let log = try Data(contentsOf: URL(fileURLWithPath: "\(node.logs)/line.log"), options: .alwaysMapped)
        // The CRI's log format splits lines at 16 KiB; the pieces carry P, the last one F.
        let overhead = 40 + 1
        let pieces = (1 << 30) / (16 << 10)
        #expect(log.count >= (1 << 30) + pieces * overhead)
        #expect(String(decoding: log.suffix(14), as: UTF8.self).hasSuffix("stdout F end\n"))
        try? FileManager.default.removeItem(atPath: "\(node.logs)/line.log")
    }
}

@Sendable private func podWithANeighbour(_ node: Node) async throws -> String {
    let pod = try await node.runPod("hostile")
    _ = try await node.runContainer(in: pod, "neighbour", ["/bin/sleep", "6000"])
    return pod
}
