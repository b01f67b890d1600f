import CRI
import Foundation
import Support
import Testing

@Suite(.enabled(if: systemTestsEnabled), .serialized, .node("many"))
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

    private func runOne(_ node: Node, _ number: Int) async throws {
        let pod = try await node.runPod("pod\(number)")
        let container = try await node.runContainer(in: pod, "c\(number)", ["/bin/echo", "pod \(number)"])
        #expect(try await node.exit(of: container).exitCode == 0)
        #expect(try node.log("c\(number)") == ["stdout F pod \(number)"])
        try await node.removePod(pod)
    }
}
