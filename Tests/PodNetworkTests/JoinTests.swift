import Errors
import Glibc
import Linux
import Runtime
import Testing

@testable import PodNetwork

@Suite struct JoinTests {
    /// A pod with its guest behind a tap.
    private struct RunningPod {
        let request: PodNetworkRequest
        let network: AttachedNetwork
        let guest: PlayedGuest
    }

    private func run(_ pod: String, on node: TestNode, ports: [PortMapping] = []) async throws -> RunningPod {
        let request = node.request(pod, ports: ports)
        let tap = "tap-\(pod)"
        try await node.networks.createTap(name: tap, uid: 64055)
        // Open before the move, as QEMU has it.
        let descriptor = try await NetworkNamespace.run(in: node.directory + "/host") { try Tap.attach(tap) }
        let network = try await node.attach(request)
        try await node.networks.join(tap: tap, into: request.namespacePath, with: network.primary)
        let guest = try PlayedGuest(network, tap: descriptor, path: "\(node.directory)/pods/\(pod)-guest")
        return RunningPod(request: request, network: network, guest: guest)
    }

    @Test func guestsTalkToTheNodeAndToEachOtherAndAreReachedByHostPort() async throws {
        let node = try TestNode([TestNode.portmap, TestNode.firewall])
        let host = node.directory + "/host"
        let first = try await run("a", on: node, ports: [PortMapping(containerPort: 80, hostPort: 8080)])
        let second = try await run("b", on: node)
        let listeners = try [EchoListener(in: host, port: 7), EchoListener(in: first.guest.path, port: 80)]
        let data = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }

        for gateway in ["10.77.0.1", "fd00:77::1"] {
            #expect(try await echo(data, from: first.guest.path, to: gateway, port: 7) == data)
        }
        for address in first.network.podIPs {
            #expect(try await echo(data, from: host, to: address, port: 80) == data)
            #expect(try await echo(data, from: second.guest.path, to: address, port: 80) == data)
        }
        #expect(try await echo(data, from: host, to: "10.77.0.1", port: 8080) == data)
        #expect(try await echo(data, from: second.guest.path, to: "10.77.0.1", port: 8080) == data)
        // From within the namespace the address is its own, and no connection comes to the guest: streamd forwards ports from the node.
        await #expect { _ = try await echo(data, from: first.request.namespacePath, to: first.network.podIPs[0], port: 80) } throws: {
            ($0 as? SwiftletError)?.systemErrno == ECONNREFUSED
        }
        // Nobody but the guest answers: the namespace's own stack has the address and is never asked.
        await #expect { _ = try await echo(data, from: host, to: second.network.podIPs[0], port: 80) } throws: {
            ($0 as? SwiftletError)?.systemErrno == ECONNREFUSED
        }
        withExtendedLifetime(listeners) {}
    }

    @Test func joiningKeepsCheckPassingAndCanBeRepeated() async throws {
        let node = try TestNode([TestNode.portmap])
        let pod = try await run("a", on: node)
        try await node.networks.join(tap: "tap-a", into: pod.request.namespacePath, with: pod.network.primary)
        try await node.networks.check(pod.request)
        #expect(try await node.networks.attach(pod.request) == pod.network)
        let tap = try await NetworkNamespace.run(in: pod.request.namespacePath) {
            let netlink = try RouteNetlink()
            let link = try #require(try netlink.link(named: "tap-a"))
            return (link, try netlink.addresses(link: link.index))
        }
        #expect(tap.0.mtu == pod.network.mtu)
        #expect(tap.0.isUp)
        #expect(tap.1.isEmpty)
    }

    @Test func detachAndDeleteLeaveNothingWhileTheGuestStillHoldsTheTap() async throws {
        let node = try TestNode()
        let pod = try await run("a", on: node)
        try await node.networks.detach(pod.request)
        try await node.networks.deleteTap(name: "tap-a", namespacePath: pod.request.namespacePath)
        try await node.networks.deleteTap(name: "tap-a", namespacePath: pod.request.namespacePath)
        let left = try await NetworkNamespace.run(in: pod.request.namespacePath) { try RouteNetlink().links().map(\.name) }
        #expect(left == ["lo"])
        try await node.networks.deleteNamespace(path: pod.request.namespacePath)
        try await node.networks.deleteTap(name: "tap-a", namespacePath: pod.request.namespacePath)
        #expect(try await !node.traces().contains { $0.hasPrefix("veth") || $0.hasPrefix("tap") })
    }

    @Test func aTapThatNeverMovedIsDeletedWhereItIs() async throws {
        let node = try TestNode()
        try await node.networks.createTap(name: "tap-x", uid: 64055)
        try await node.networks.deleteTap(name: "tap-x", namespacePath: "/nonexistent")
        #expect(try await !node.traces().contains("tap-x"))
    }

    @Test func joiningWithoutTapOrInterfaceIsNotFound() async throws {
        let node = try TestNode()
        let request = node.request("a")
        try await node.networks.createNamespace(path: request.namespacePath)
        await #expect {
            try await node.networks.join(tap: "tap-a", into: request.namespacePath, with: AttachedNetwork.sample.primary)
        } throws: {
            ($0 as? SwiftletError)?.code == .notFound
        }
        try await node.networks.createTap(name: "tap-a", uid: 0)
        await #expect {
            try await node.networks.join(tap: "tap-a", into: request.namespacePath, with: AttachedNetwork.sample.primary)
        } throws: {
            ($0 as? SwiftletError)?.message.contains("eth0") == true
        }
        await #expect { try await node.networks.join(tap: "tap-a", into: "/nonexistent", with: AttachedNetwork.sample.primary) } throws: {
            ($0 as? SwiftletError)?.code == .notFound
        }
    }
}

extension AttachedNetwork {
    fileprivate static let sample = AttachedNetwork(
        interfaceName: "eth0", mac: "02:00:00:00:00:01", mtu: 1500, addresses: ["10.77.0.9/16"], routes: [])
}
