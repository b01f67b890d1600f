import Foundation
import Testing

/// Gives a suite a running node with the sample image, and takes it away at the end.
struct NodeTrait: SuiteTrait, TestScoping {
    @TaskLocal static var node: Node?

    let name: String
    let options: Node.Options

    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        guard test.isSuite else { return try await function() }
        let node = try Node(name, options: options)
        do {
            try await node.start()
            try await node.loadSampleImage()
            try await NodeTrait.$node.withValue(node) { try await function() }
        } catch {
            await node.destroy()
            throw error
        }
        await node.destroy()
    }
}

extension Trait where Self == NodeTrait {
    static func node(_ name: String, _ options: Node.Options = Node.Options()) -> Self {
        NodeTrait(name: name, options: options)
    }
}

/// Whether this run has what system tests need: they run by `make test` alone.
let systemTestsEnabled = ProcessInfo.processInfo.environment["SWIFTLET_SYSTEM_TESTS"] == "1"

/// The node of the suite that runs.
func node() throws -> Node { try #require(NodeTrait.node) }
