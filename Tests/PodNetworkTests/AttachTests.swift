import Errors
import Foundation
import Linux
import Runtime
import Testing

@testable import PodNetwork

@Suite struct AttachTests {
    @Test(arguments: ["0.3.1", "0.4.0", "1.0.0"])
    func podsGetAddressesOfTheirOwnAndNothingIsLeftAfterDetach(_ version: String) async throws {
        // The firewall plugin speaks 0.4.0 and later only.
        let firewall = version == "0.3.1" ? [] : [TestNode.firewall]
        let node = try TestNode(firewall + [TestNode.portmap, TestNode.bandwidth, TestNode.tuning], cniVersion: version)
        func lifecycle(_ number: Int) async throws -> [AttachedNetwork] {
            let requests = (0..<2).map { pod in
                node.request(
                    "pod\(number)-\(pod)", ports: [PortMapping(containerPort: 80, hostPort: UInt16(8000 + pod))],
                    bandwidth: Bandwidth(ingressRate: 10_000_000, egressRate: 10_000_000))
            }
            var attached: [AttachedNetwork] = []
            for request in requests { attached.append(try await node.attach(request)) }
            for request in requests {
                try await node.networks.detach(request)
                try await node.networks.detach(request)
                try await node.networks.deleteNamespace(path: request.namespacePath)
            }
            return attached
        }
        // The first pods leave the bridge and the plugins' empty chains, which are the node's and stay.
        _ = try await lifecycle(0)
        let before = try await node.traces()
        let attached = try await lifecycle(1)
        #expect(try await node.traces() == before)
        #expect(!before.contains { $0.contains("pod0") || $0.hasPrefix("veth") })

        let addresses = attached.flatMap(\.podIPs)
        #expect(addresses.count == 4)
        #expect(Set(addresses).count == 4)
    }

    @Test func whatTheGuestMustGetIsReadFromTheNamespace() async throws {
        let node = try TestNode()
        let network = try await node.attach(node.request("pod"))
        #expect(network.interfaceName == "eth0")
        #expect(network.mtu == 1420)
        #expect(MACAddress(network.mac) != nil)
        #expect(network.addresses == ["10.77.0.2/16", "fd00:77::2/64"])
        #expect(network.podIPs == ["10.77.0.2", "fd00:77::2"])
        #expect(network.routes.map(\.destination) == ["0.0.0.0/0", "::/0"])
        #expect(network.routes.map(\.gateway) == ["10.77.0.1", "fd00:77::1"])
        #expect(network.additional.isEmpty)
        let loopback = try await NetworkNamespace.run(in: node.request("pod").namespacePath) { try RouteNetlink().link(named: "lo") }
        #expect(loopback?.isUp == true)
    }

    @Test func attachingAgainAfterARestartKeepsTheAddress() async throws {
        let node = try TestNode([TestNode.portmap])
        let request = node.request("pod", ports: [PortMapping(containerPort: 80, hostPort: 8000)])
        let first = try await node.attach(request)
        let traces = try await node.traces()
        let restarted = PodNetworks(configuration: node.configuration, logger: .init(label: "test"))
        #expect(try await restarted.attach(request) == first)
        #expect(try await node.traces() == traces)
    }

    @Test func anAttachmentCutShortIsUndoneAndMadeAnew() async throws {
        let node = try TestNode()
        let request = node.request("pod")
        _ = try await node.attach(request)
        let records = AttachmentRecords(directory: node.configuration.cacheDirectory)
        var record = try #require(await records.read(request))
        record.complete = false
        record.result = nil
        try await records.write(record)
        let second = try await node.networks.attach(request)
        #expect(second.podIPs == ["10.77.0.3", "fd00:77::3"])
        try await node.networks.detach(request)
        #expect(try await node.traces().filter { $0.hasPrefix("10.77") || $0.hasPrefix("veth") }.isEmpty)
    }

    @Test func anAttachmentWhoseInterfaceIsGoneIsMadeAnew() async throws {
        let node = try TestNode()
        let request = node.request("pod")
        _ = try await node.attach(request)
        try await NetworkNamespace.run(in: request.namespacePath) {
            let netlink = try RouteNetlink()
            try netlink.delete(link: try #require(try netlink.link(named: "eth0")).index)
        }
        let second = try await node.networks.attach(request)
        #expect(second.addresses.count == 2)
        try await node.networks.detach(request)
        #expect(try await node.traces().filter { $0.hasPrefix("10.77") || $0.hasPrefix("veth") }.isEmpty)
    }

    @Test func detachWorksWhenTheNamespaceAndTheConfigurationAreGone() async throws {
        let node = try TestNode([TestNode.portmap])
        let warmup = node.request("warmup", ports: [PortMapping(containerPort: 80, hostPort: 8000)])
        _ = try await node.attach(warmup)
        try await node.networks.detach(warmup)
        try await node.networks.deleteNamespace(path: warmup.namespacePath)
        let before = try await node.traces()

        let request = node.request("pod", ports: [PortMapping(containerPort: 80, hostPort: 8000)])
        _ = try await node.attach(request)
        try await node.networks.deleteNamespace(path: request.namespacePath)
        try FileManager.default.removeItem(atPath: node.configuration.configDirectory)
        try await node.networks.detach(request)
        #expect(try await node.traces() == before)
        try await node.networks.detach(request)
    }

    @Test func aLostRecordStillGivesTheAddressBack() async throws {
        let node = try TestNode()
        let request = node.request("pod")
        _ = try await node.attach(request)
        try FileManager.default.removeItem(atPath: node.configuration.cacheDirectory)
        try await node.networks.detach(request)
        #expect(try await node.traces().filter { $0.hasPrefix("10.77") || $0.hasPrefix("veth") }.isEmpty)
    }

    @Test func twentyPodsAtOnceGetTwentyAddresses() async throws {
        let node = try TestNode([TestNode.portmap])
        let addresses = try await withThrowingTaskGroup(of: String?.self) { group in
            for number in 0..<20 {
                group.addTask { try await node.attach(node.request("pod\(number)")).podIPs.first }
            }
            return try await group.reduce(into: Set<String?>()) { $0.insert($1) }
        }
        #expect(addresses.count == 20)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 { group.addTask { try await node.networks.detach(node.request("pod\(number)")) } }
            try await group.waitForAll()
        }
        #expect(try await node.traces().filter { $0.hasPrefix("10.77") || $0.hasPrefix("veth") }.isEmpty)
    }
}
