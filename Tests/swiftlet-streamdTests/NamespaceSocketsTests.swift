import CLinux
import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import NIOCore
import Runtime
import StreamClient
import StreamControl
import StreamFrames
import Support
import Testing

/// Ports of a pod that the node has no route to, forwarded by the program as it is started.
@Suite(.timeLimit(.minutes(2))) struct NamespaceSocketsTests {
    /// Two namespaces on one link: the pod's, and the guest's with a service at port 80 of both address families.
    private final class PlayedPod: Sendable {
        let path = NSTemporaryDirectory() + "swiftlet-pod-\(UUID())"
        private let guest = NSTemporaryDirectory() + "swiftlet-guest-\(UUID())"
        let addresses = ["10.77.0.9", "fd00:77::9"]

        init() throws {
            for namespace in [path, guest] { try NetworkNamespace.create(at: namespace) }
            let (guest, addresses) = (guest, addresses)
            let sources = [PortEndpoint.sourceIPv4, PortEndpoint.sourceIPv6].compactMap { $0 }
            try NetworkNamespace.runAndWait(in: path) {
                let other = try NetworkNamespace.open(guest)
                defer { close(other) }
                let netlink = try RouteNetlink()
                try netlink.createVeth("tap", peer: "eth0", peerNamespace: other)
                try Self.set(netlink, "tap", sources, routes: addresses)
            }
            try NetworkNamespace.runAndWait(in: guest) {
                let own = addresses.compactMap { IPAddress($0) }.compactMap { IPPrefix(address: $0, length: $0.isIPv6 ? 128 : 32) }
                try Self.set(try RouteNetlink(), "eth0", own, routes: sources.filter { !$0.address.isIPv6 }.map { "\($0.address)" })
                try Self.serve()
            }
        }

        deinit { for namespace in [path, guest] { try? NetworkNamespace.delete(at: namespace) } }

        private static func set(_ netlink: RouteNetlink, _ name: String, _ addresses: [IPPrefix], routes: [String]) throws {
            guard let link = try netlink.link(named: name) else { throw SwiftletError(.notFound, name) }
            try netlink.change(link: link.index, LinkChange(up: true))
            for address in addresses { try netlink.add(address: address, link: link.index) }
            for route in routes.compactMap({ IPAddress($0) }) {
                guard let destination = IPPrefix(address: route, length: route.isIPv6 ? 128 : 32) else { continue }
                try netlink.add(route: LinkRoute(destination: destination, link: link.index), replacing: true)
            }
        }

        /// Says backwards what it was told when it was told all: each direction has its own end.
        private static func serve() throws {
            let listener = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = UInt16(80).bigEndian
            let isBound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in6>.size)) == 0 }
            }
            guard isBound, listen(listener, 64) == 0 else { throw SwiftletError.system("listen") }
            try OwnThread.start {
                for _ in 0..<2 {
                    let connection = accept(listener, nil, nil)
                    let question = TCPClient.readAll(connection)
                    TCPClient.sendAll(connection, question.reversed())
                    close(connection)
                }
                close(listener)
            }
        }
    }

    private static func status(_ pid: Int32, _ name: String) -> String? {
        let text = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        return text?.split(separator: "\n").first { $0.hasPrefix(name + ":") }?.split(separator: "\t").last.map(String.init)
    }

    /// Processes that this one has made.
    private static func children(of pid: Int32) throws -> [Int32] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.filter { status($0, "PPid") == "\(pid)" }
    }

    @Test func aPodWithoutARouteIsReachedByAProcessThatCanDoNothingElse() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "ports-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let pod = try PlayedPod()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appending(
            path: "swiftlet-streamd")
        process.arguments = ["--control-socket", directory + "/s", "--positions", directory]
        process.standardError = FileHandle.nullDevice
        try process.run()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        try await eventually("it is served") { (try? await StreamControlClient.connect(to: directory + "/s")) != nil }
        let client = try await StreamControlClient.connect(to: directory + "/s")
        _ = try await client.call(.configure, .with { $0.address = "127.0.0.1:0" }, timeout: .seconds(10))
        try await eventually("clients are served") {
            try await !client.call(.getInfo, StreamGetInfoRequest(), timeout: .seconds(10)).url.isEmpty
        }
        for address in pod.addresses {
            let request = StreamPreparePortForwardRequest.with {
                ($0.network.namespace, $0.network.address, $0.network.sandboxID) = (pod.path, address, "s")
            }
            let url = try await client.call(.preparePortForward, request, timeout: .seconds(10)).url
            let session = try await SPDYSession.connect(to: url, versions: [PortForwarder.version], by: SessionConnector())
            defer { session.end() }
            func headers(_ type: String) -> [(name: String, value: String)] { [("streamType", type), ("port", "80"), ("requestID", "0")] }
            let failure = try await session.open(headers("error"))
            failure.end()
            let data = try await session.open(headers("data"))
            try await data.write(ByteBuffer(string: "question"))
            data.end()
            var answer = ByteBuffer()
            while var part = try await data.read() { answer.writeBuffer(&part) }
            #expect(String(buffer: answer) == "noitseuq", "\(address)")
        }
        let child = try #require(try Self.children(of: process.processIdentifier).first)
        // CAP_SYS_ADMIN alone.
        #expect(Self.status(child, "CapEff") == "0000000000200000")
        #expect(Self.status(child, "CapBnd") == "0000000000000000")
        #expect(Self.status(child, "Seccomp") == "2")
        #expect(Self.status(child, "NoNewPrivs") == "1")
        let arguments = try String(contentsOfFile: "/proc/\(child)/cmdline", encoding: .utf8)
        #expect(!arguments.contains(directory), "nobody takes it for the other")
        client.close()
        kill(process.processIdentifier, SIGKILL)
        try await eventually("it ends with the other") { ["Z (zombie)", nil].contains(Self.status(child, "State")) }
    }
}
