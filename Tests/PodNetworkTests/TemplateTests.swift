import Errors
import Foundation
import Linux
import Testing

@testable import PodNetwork

/// A network that is made from the ranges the kubelet tells.
@Suite struct TemplateTests {
    private func ranges(_ texts: String...) throws -> [IPPrefix] { try texts.map { try #require(IPPrefix($0)) } }

    private func node(_ template: String?) throws -> TestNode {
        let node = try TestNode()
        try FileManager.default.removeItem(atPath: node.directory + "/net.d/10-test.conflist")
        try template?.write(toFile: node.directory + "/template.json", atomically: true, encoding: .utf8)
        return node
    }

    private func bridge(_ ipam: String) -> String {
        """
        {"cniVersion": "0.4.0", "name": "made", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "forceAddress": true, "mtu": 1400,
        "ipam": {"type": "host-local", "dataDir": "/tmp/swiftlet-cni-none", \(ipam)}}]}
        """
    }

    @Test func podsGetAddressesOfTheRangesThatWereTold() async throws {
        let node = try node(nil)
        let template = bridge(#""ranges": "{{.PodCIDRRanges}}", "routes": "{{ .Routes }}""#)
        try template.replacing("/tmp/swiftlet-cni-none", with: node.directory + "/pool").write(
            toFile: node.directory + "/template.json", atomically: true, encoding: .utf8)
        let request = node.request("pod1")
        await #expect(throws: SwiftletError.self) { try await node.attach(request) }
        try await node.networks.configure(ranges: ranges("10.91.3.7/24", "fd00:91::/64"))
        #expect(await node.networks.status() == .ready(network: "made"))
        let network = try await node.attach(request)
        #expect(network.addresses.count == 2 && network.addresses.contains { $0.hasPrefix("10.91.3.") })
        #expect(network.addresses.contains { $0.hasPrefix("fd00:91::") })
        #expect(Set(network.routes.filter { !$0.gateway.isEmpty }.map(\.destination)) == ["0.0.0.0/0", "::/0"])
        try await node.networks.detach(request)

        // The next telling counts for the next pod; nothing but the one file is left.
        try await node.networks.configure(ranges: ranges("10.92.0.0/24"))
        let other = node.request("pod2")
        let next = try await node.attach(other)
        #expect(next.addresses.count == 1 && next.addresses[0].hasPrefix("10.92.0."))
        try await node.networks.detach(other)
        #expect(try FileManager.default.contentsOfDirectory(atPath: node.directory + "/net.d") == ["10-swiftlet.conflist"])
    }

    @Test func theFirstRangeMayStandAlone() async throws {
        let node = try node(bridge(#""subnet": "{{.PodCIDR}}""#))
        try await node.networks.configure(ranges: ranges("10.91.0.0/24", "10.92.0.0/24"))
        let network = try CNINetworkList.load(from: node.directory + "/net.d")
        #expect(network.plugins[0]["ipam"]?["subnet"] == .string("10.91.0.0/24"))
        #expect(network.plugins[0]["mtu"] == .integer(1400))
    }

    @Test(arguments: [
        (nil, "cannot be read"), ("{", "not valid JSON"), ("[]", "no list of"), (#"{"name": "x", "type": "bridge"}"#, "no list of"),
        (#"{"name": "x", "cniVersion": "0.4.0", "plugins": []}"#, "at least one plugin"),
        (#"{"name": "x", "cniVersion": "0.4.0", "plugins": [{"type": "bridge", "mtu": "{{.MTU}}"}]}"#, "{{.MTU}}"),
        (#"{"name": "x", "cniVersion": "0.4.0", "plugins": [{"type": "bridge", "x": "{{range .PodCIDRRanges}}"}]}"#, "is none of"),
        (#"{"name": "x", "plugins": [{"type": "bridge"}]}"#, "cniVersion"),
    ])
    func aBrokenTemplateIsNamedAndChangesNothing(_ template: String?, _ problem: String) async throws {
        let node = try node(template)
        let error = await #expect(throws: SwiftletError.self) { try await node.networks.configure(ranges: ranges("10.91.0.0/24")) }
        #expect(error?.code == .failedPrecondition)
        #expect(error.map { "\($0)" }?.contains(problem) == true, "\(error.map { "\($0)" } ?? "")")
        #expect(error?.message.contains("template.json") == true)
        #expect(try FileManager.default.contentsOfDirectory(atPath: node.directory + "/net.d").isEmpty)
    }
}
