import Errors
import Foundation
import Linux
import Runtime
import Testing

@testable import PodNetwork

@Suite struct PluginFailureTests {
    private static let failing = #"{"type": "failing"}"#

    @Test func aFailedAddIsUndoneAndItsErrorNamesThePlugin() async throws {
        let node = try TestNode([TestNode.firewall, Self.failing])
        try node.install(
            plugin: "failing",
            """
            [ $CNI_COMMAND != ADD ] && exit 0
            echo '{"cniVersion": "0.4.0", "code": 101, "msg": "out of luck", "details": "try elsewhere"}'; exit 1
            """)
        let error = await #expect(throws: SwiftletError.self) { _ = try await node.attach(node.request("pod")) }
        #expect(
            error?.cause as? CNIPluginError
                == CNIPluginError(plugin: "failing", command: "ADD", code: 101, message: "out of luck", details: "try elsewhere"))
        #expect(error?.message.contains("pod") == true)
        #expect(node.calls == ["failing ADD", "failing DEL"])
        // Nothing of the plugins before it is left either, not even the firewall's rules, which need the result to be found.
        let traces = try await node.traces()
        #expect(!traces.contains { $0.hasPrefix("veth") || $0.hasPrefix("10.77") || $0.contains("10.77.0.2/32") || $0.hasSuffix(".json") })
    }

    @Test func aPluginThatPrintsNoJSONIsQuoted() async throws {
        let node = try TestNode([Self.failing])
        try node.install(plugin: "failing", "[ $CNI_COMMAND = DEL ] && exit 0; echo segfault in module 7 >&2; exit 2")
        let error = await #expect(throws: SwiftletError.self) { _ = try await node.attach(node.request("pod")) }
        #expect((error?.cause as? CNIPluginError)?.message.contains("segfault in module 7") == true)
    }

    @Test func tryAgainLaterIsUnavailable() async throws {
        let node = try TestNode([Self.failing])
        try node.install(plugin: "failing", #"[ $CNI_COMMAND = DEL ] && exit 0; echo '{"code": 11, "msg": "busy"}'; exit 1"#)
        await #expect { _ = try await node.attach(node.request("pod")) } throws: { ($0 as? SwiftletError)?.code == .unavailable }
    }

    @Test func aHangingPluginIsKilledAtItsDeadlineAndTheRestIsUndone() async throws {
        let node = try TestNode([Self.failing], pluginDeadline: .seconds(5))
        try node.install(plugin: "failing", "[ $CNI_COMMAND = DEL ] && exit 0; sleep 1000")
        await #expect { _ = try await node.attach(node.request("pod")) } throws: { ($0 as? SwiftletError)?.code == .deadlineExceeded }
        #expect(node.calls.last == "failing DEL")
        #expect(try await !node.traces().contains { $0.hasPrefix("veth") || $0.hasPrefix("10.77") })
    }

    @Test func aFailedDeleteKeepsTheRecordAndTheAddressUntilItSucceeds() async throws {
        let node = try TestNode([Self.failing])
        let path = node.directory + "/fixed"
        try node.install(
            plugin: "failing",
            #"case $CNI_COMMAND in ADD) echo '{"cniVersion": "0.4.0"}';; DEL) [ -e \#(path) ] || { echo '{"code": 100, "msg": "locked"}'; exit 1; };; esac"#
        )
        _ = try await node.attach(node.request("pod"))
        await #expect(throws: SwiftletError.self) { try await node.networks.detach(node.request("pod")) }
        #expect(try await node.traces().contains("10.77.0.2"))
        FileManager.default.createFile(atPath: path, contents: nil)
        try await node.networks.detach(node.request("pod"))
        #expect(try await !node.traces().contains { $0.hasPrefix("10.77") || $0.hasSuffix(".json") })
    }

    @Test func capabilitiesGoOnlyToPluginsThatDeclareThem() async throws {
        let declared = #"{"type": "failing", "capabilities": {"portMappings": true, "dns": false, "bandwidth": true}}"#
        let node = try TestNode([declared])
        try node.install(
            plugin: "failing",
            #"[ $CNI_COMMAND = ADD ] && echo "$input" > \#(node.directory)/stdin; echo "$CNI_ARGS" > \#(node.directory)/args; echo '{"cniVersion": "0.4.0"}'"#
        )
        var request = node.request(
            "pod",
            ports: [
                PortMapping(transport: .udp, containerPort: 53, hostPort: 5353, hostIP: "10.0.0.1"),
                PortMapping(containerPort: 80, hostPort: 0),
            ])
        request.dns = NetworkDNS(nameservers: ["1.1.1.1"])
        _ = try await node.attach(request)
        let stdin = try JSONDecoder().decode(JSONValue.self, from: Data(contentsOf: URL(filePath: node.directory + "/stdin")))
        #expect(
            stdin["runtimeConfig"]
                == .object([
                    "portMappings": .array([
                        .object([
                            "hostPort": .integer(5353), "containerPort": .integer(53), "protocol": .string("udp"),
                            "hostIP": .string("10.0.0.1"),
                        ])
                    ])
                ]))
        #expect(stdin["prevResult"]?["ips"]?.array?.count == 2)
        #expect(stdin["name"] == .string("test"))
        let arguments = try String(contentsOfFile: node.directory + "/args", encoding: .utf8)
        #expect(
            arguments
                == "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=pod;K8S_POD_UID=uid-pod\n")
    }

    @Test(arguments: ["../evil", "", "-a", "a/b", "a;b", String(repeating: "a", count: 10_000), "a\0b"])
    func podIDsThatCouldLeaveTheirDirectoryAreRefused(_ id: String) async throws {
        let node = try TestNode()
        await #expect { _ = try await node.networks.attach(node.request(id)) } throws: { ($0 as? SwiftletError)?.code == .invalidArgument }
        await #expect { try await node.networks.detach(node.request(id)) } throws: { ($0 as? SwiftletError)?.code == .invalidArgument }
    }

    @Test func argumentsCannotBeSmuggledIn() async throws {
        let node = try TestNode()
        var request = node.request("pod")
        request.podName = "web;IP=10.77.0.1"
        await #expect { _ = try await node.networks.attach(request) } throws: { ($0 as? SwiftletError)?.code == .invalidArgument }
    }

    @Test func attachWithoutANamespaceIsNotFound() async throws {
        let node = try TestNode()
        await #expect { _ = try await node.networks.attach(node.request("pod")) } throws: { ($0 as? SwiftletError)?.code == .notFound }
    }
}

@Suite struct NetworkStatusTests {
    @Test func readyNamesTheNetwork() async throws {
        let node = try TestNode([TestNode.portmap])
        #expect(await node.networks.status() == .ready(network: "test"))
    }

    @Test func theFirstFileInLexicalOrderCountsAndConfIsAChainOfOne() async throws {
        let node = try TestNode()
        try node.configure(#"{"cniVersion": "0.3.1", "name": "single", "type": "bridge"}"#, file: "05-first.conf")
        try node.configure("garbage", file: "01-notes.txt")
        #expect(await node.networks.status() == .ready(network: "single"))
    }

    @Test(arguments: [
        ("{", "not valid JSON"),
        ("[]", "a JSON object is expected"),
        (#"{"cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}"#, #""name" is missing"#),
        (#"{"cniVersion": "1.0.0", "name": "../x", "plugins": [{"type": "bridge"}]}"#, #""name" is missing"#),
        (#"{"name": "x", "plugins": [{"type": "bridge"}]}"#, #""cniVersion" is missing"#),
        (#"{"cniVersion": "9.0.0", "name": "x", "plugins": [{"type": "bridge"}]}"#, "9.0.0 is not supported"),
        (#"{"cniVersion": "1.0.0", "name": "x", "plugins": []}"#, "at least one plugin"),
        (#"{"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "../bin/sh"}]}"#, "no file name"),
        (#"{"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "bridgex"}]}"#, "CNI plugin bridgex is in none of"),
    ])
    func whatIsWrongIsSaidWithTheFile(_ text: String, _ expected: String) async throws {
        let node = try TestNode()
        try node.configure(text)
        guard case .notReady(let reason) = await node.networks.status() else {
            Issue.record("a broken configuration counts as ready")
            return
        }
        #expect(reason.contains(expected))
        #expect(reason.contains("10-test.conflist") || expected.contains("in none of"))
    }

    @Test func withoutConfigurationItIsNotReady() async throws {
        let node = try TestNode()
        try FileManager.default.removeItem(atPath: node.configuration.configDirectory)
        guard case .notReady(let reason) = await node.networks.status() else {
            Issue.record("no configuration counts as ready")
            return
        }
        #expect(reason.contains("no CNI configuration in \(node.configuration.configDirectory)"))
    }
}
