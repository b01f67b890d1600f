import Foundation
import Testing

/// Gives a suite a running node with the sample image, and a pod on it if it wants one; takes both away at the end.
struct NodeTrait: SuiteTrait, TestScoping {
    typealias PodOfSuite = @Sendable (Node) async throws -> String

    @TaskLocal static var node: Node?
    @TaskLocal static var pod: String?

    let name: String
    let options: Node.Options
    /// Runs the pod that all tests of the suite share, since each boot is dear.
    let pod: PodOfSuite?

    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        guard test.isSuite else { return try await function() }
        let node = try Node(name, options: options)
        do {
            try await node.start()
            try await node.loadSampleImage()
            try await NodeTrait.$node.withValue(node) {
                if let pod { try await withPod(pod, on: node, function) } else { try await function() }
            }
        } catch {
            await node.destroy()
            throw error
        }
        await node.destroy()
    }

    /// The pod leaves nothing, whatever the tests have done in it.
    private func withPod(_ run: PodOfSuite, on node: Node, _ function: @Sendable () async throws -> Void) async throws {
        let before = try await Footprint.now(node)
        let pod = try await run(node)
        try await NodeTrait.$pod.withValue(pod) { try await function() }
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }
}

extension Trait where Self == NodeTrait {
    static func node(_ name: String, _ options: Node.Options = Node.Options(), pod: NodeTrait.PodOfSuite? = nil) -> Self {
        NodeTrait(name: name, options: options, pod: pod)
    }
}

/// Whether this run has what system tests need: they run by `make test` alone.
let systemTestsEnabled = ProcessInfo.processInfo.environment["SWIFTLET_SYSTEM_TESTS"] == "1"

/// The node of the suite that runs.
func node() throws -> Node { try #require(NodeTrait.node) }

/// The pod that the suite's tests share.
func sharedPod() throws -> String { try #require(NodeTrait.pod) }
