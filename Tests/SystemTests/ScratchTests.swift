import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Support
import Testing

/// What a pod's scratch disk takes on the node.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(15)), .serialized, .node("scratch"))
struct ScratchTests {
    /// Bytes that a pod's disk takes on the node.
    private static func taken(_ node: Node, _ pod: String) throws -> UInt64 {
        var status = stat()
        let path = "\(node.root)/pods/scratch/\(pod.prefix(13)).img"
        try #require(stat(path, &status) == 0, "\(path)")
        return UInt64(status.st_blocks) * 512
    }

    @Test func anIdlePodsDiskStaysSmallAndDeletedFilesGiveTheirSpaceBack() async throws {
        let node = try node()
        let pod = try await node.runPod("scratch")
        let container = try await node.runContainer(in: pod, "c", ["/bin/sleep", "6000"])
        // Lazy initialisation of the inode tables would have begun.
        try await Task.sleep(for: .seconds(40))
        let idle = try Self.taken(node, pod)
        #expect(idle < 2 << 20, "\(idle) bytes")
        _ = try await node.shell(container, "dd if=/dev/urandom of=/data bs=1M count=100 2>/dev/null; sync")
        let full = try Self.taken(node, pod)
        #expect(full >= 100 << 20, "\(full) bytes")
        // The node's own count is the least that is reported.
        let stats = try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = container }).stats
        #expect(
            stats.writableLayer.usedBytes.value >= 100 << 20 && stats.writableLayer.usedBytes.value < 103 << 20, "\(stats.writableLayer)")
        _ = try await node.shell(container, "rm /data; sync")
        try await eventually("the space is given back", within: .seconds(30)) { try Self.taken(node, pod) < 5 << 20 }
        try await node.removePod(pod)
    }

    @Test func aPodsAnnotationLimitsWhatItsContainersWriteAndIsRefusedOutOfRange() async throws {
        let node = try node()
        let key = "swiftlet/scratch-size"
        let pod = try await node.runPod("quota") { $0.annotations[key] = "100Mi" }
        let container = try await node.runContainer(in: pod, "c", ["/bin/sleep", "6000"])
        let said = try await node.shell(container, "dd if=/dev/zero of=/data bs=1M count=200")
        #expect(said.contains("No space left"), "\(said)")
        #expect(try Self.taken(node, pod) <= 101 << 20)
        try await node.removePod(pod)
        for value in ["1Mi", "11Gi", "99999999999Ti", "lots", "-1", ""] {
            let refused = await refusal { _ = try await node.runPod("refused") { $0.annotations[key] = value } }
            #expect(refused?.code == .invalidArgument && refused?.message.contains(key) == true, "\(String(describing: refused))")
        }
        #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, .init()).items.isEmpty)
    }
}
