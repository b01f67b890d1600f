import Errors
import Foundation
import Runtime
import Testing

@testable import PodNetwork

/// STATUS and GC of CNI 1.1, which Debian's plugins do not know: what a plugin is asked, and what its answer does.
@Suite struct StatusTests {
    private static func list(_ rest: String = "") -> String {
        #"{"cniVersion": "1.1.0", "name": "test"\#(rest), "plugins": [{"type": "first"}, {"type": "second"}]}"#
    }

    private func install(_ node: TestNode) throws {
        for plugin in ["first", "second"] {
            try node.install(
                plugin: plugin,
                """
                echo "$input" > \(node.directory)/\(plugin)-$CNI_COMMAND; env > \(node.directory)/environment
                [ -e \(node.directory)/\(plugin)-fails ] && { echo '{"code": 50, "msg": "its daemon is away"}'; exit 1; }
                exit 0
                """)
        }
    }

    private func fail(_ plugin: String, _ fails: Bool, _ node: TestNode) throws {
        let path = "\(node.directory)/\(plugin)-fails"
        if fails { FileManager.default.createFile(atPath: path, contents: nil) } else { try FileManager.default.removeItem(atPath: path) }
    }

    @Test func aPluginThatCannotAttachMakesTheNetworkNotReady() async throws {
        let node = try TestNode(statusGrace: .zero)
        try install(node)
        try node.configure(Self.list())
        #expect(await node.networks.status() == .ready(network: "test"))
        #expect(node.calls == ["first STATUS", "second STATUS"])
        let environment = try String(contentsOfFile: node.directory + "/environment", encoding: .utf8)
        #expect(environment.contains("CNI_PATH=") && !environment.contains("CNI_CONTAINERID") && !environment.contains("CNI_NETNS"))
        try fail("second", true, node)
        guard case .notReady(let reason) = await node.networks.status() else {
            Issue.record("the network is ready")
            return
        }
        #expect(reason.contains("second") && reason.contains("its daemon is away"))
        try fail("second", false, node)
        #expect(await node.networks.status() == .ready(network: "test"))
    }

    @Test func aPluginThatFailsForAMomentDoesNot() async throws {
        let node = try TestNode()
        try install(node)
        try node.configure(Self.list())
        try fail("first", true, node)
        // Nothing is known of it yet.
        guard case .notReady = await node.networks.status() else {
            Issue.record("the network is ready")
            return
        }
        try fail("first", false, node)
        #expect(await node.networks.status() == .ready(network: "test"))
        try fail("first", true, node)
        #expect(await node.networks.status() == .ready(network: "test"))
        // Of another network nothing is known.
        try node.configure(Self.list(#", "disableCheck": true"#))
        guard case .notReady = await node.networks.status() else {
            Issue.record("the network is ready")
            return
        }
    }

    @Test func versionsWithoutStatusAreNotAsked() async throws {
        let node = try TestNode(cniVersion: "1.0.0")
        try install(node)
        try node.configure(Self.list().replacing("1.1.0", with: "1.0.0"))
        #expect(await node.networks.status() == .ready(network: "test"))
        node.networks.collectGarbage()
        _ = try? await node.attach(node.request("pod"))
        #expect(!node.calls.contains { $0.hasSuffix("STATUS") || $0.hasSuffix("GC") })
    }

    @Test func garbageIsWhatIsOfNoPodAndPodsWaitUntilItIsGone() async throws {
        let node = try TestNode()
        _ = try await node.attach(node.request("kept"))
        try install(node)
        try node.configure(Self.list())
        node.networks.collectGarbage()
        await #expect(throws: SwiftletError.self) { _ = try await node.attach(node.request("late")) }
        #expect(Array(node.calls.prefix(3)) == ["first GC", "second GC", "first ADD"])
        let asked = try JSONDecoder().decode(
            JSONValue.self, from: Data(contentsOf: URL(fileURLWithPath: node.directory + "/second-GC")))
        #expect(
            asked["cni.dev/valid-attachments"] == .array([.object(["containerID": "kept", "ifname": "eth0"])]))
        #expect(asked["name"] == "test" && asked["cniVersion"] == "1.1.0" && asked["type"] == "second")
        try await node.networks.detach(node.request("kept"))
    }

    @Test func aSharedNetworkIsNotCleanedUp() async throws {
        let node = try TestNode()
        try install(node)
        try node.configure(Self.list(#", "disableGC": true"#))
        node.networks.collectGarbage()
        _ = try? await node.attach(node.request("pod"))
        #expect(!node.calls.contains { $0.hasSuffix("GC") })
    }
}
