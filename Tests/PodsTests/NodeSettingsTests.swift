import Errors
import Foundation
import State
import Testing

@testable import Pods
@testable import Runtime

@Suite struct NodeSettingsTests {
    @Test func podRangesAreCheckedAndKept() async throws {
        let node = try await FakeNode()
        try await node.registry.setPodCIDRs(["10.244.0.0/24", "fd00::/64"])
        for wrong in ["10.244.0.0", "x/24", ""] {
            let error = await #expect(throws: SwiftletError.self) { try await node.registry.setPodCIDRs([wrong]) }
            #expect(error?.message.contains("pod_cidr") == true)
        }
        node.handler.inject(.failNetwork)
        await #expect(throws: SwiftletError.self) { try await node.registry.setPodCIDRs(["10.9.0.0/24"]) }
        #expect(node.registry.podCIDRs == ["10.244.0.0/24", "fd00::/64"], "what the network does not take is not kept")
        #expect(node.handler.state.withLock { $0.ranges } == [["10.244.0.0/24", "fd00::/64"]])
        await node.images.shutdown()
        let next = try await FakeNode(directory: node.directory)
        try await next.registry.recover()
        #expect(next.registry.podCIDRs == ["10.244.0.0/24", "fd00::/64"])
        #expect(next.handler.state.withLock { $0.ranges } == [["10.244.0.0/24", "fd00::/64"]], "the template may have changed")
        await next.close()
    }
    @Test(arguments: ["{", "[\"10.244.0.0\"]", "[\"10.244.0.0/24\"]"])
    func aSettingThatCannotBeTakenOverKeepsNoPodFromItsRecovery(_ document: String) async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        let record = NodeSettingRecord(name: "podCIDR", document: Data(document.utf8))
        try await node.database.write { try record.save($0) }
        node.registry.close()
        await node.images.shutdown()
        node.handler.inject(.failNetwork)
        let next = try await FakeNode(handler: node.handler, directory: node.directory)
        try await next.registry.recover()
        await next.registry.recovered()
        #expect(try next.registry.sandbox(id).isReady)
        #expect(next.registry.podCIDRs == (document.contains("/24") ? ["10.244.0.0/24"] : []))
        try await next.registry.stopSandbox(id)
        await next.close()
    }
}
