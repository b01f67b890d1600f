import Errors
import Foundation
import Glibc
import Linux
import Logging
import Runtime

@testable import PodNetwork

/// A node of its own: a network namespace in the host's place, a directory with CNI configuration, plugins, address pool
/// and records. Everything is gone with the object; the machine's own network is never touched.
final class TestNode: Sendable {
    let directory: String
    let configuration: CNIConfiguration
    let networks: PodNetworks

    /// - Parameter plugins: the chain after "bridge".
    init(
        _ plugins: [String] = [], cniVersion: String = "0.4.0", pluginDeadline: Duration = .seconds(30), allowsSpoofing: Bool = false,
        statusGrace: Duration = .seconds(30)
    ) throws {
        directory = "/tmp/swiftlet-cni-\(UUID().uuidString.prefix(8))"
        var configuration = CNIConfiguration(
            configDirectory: directory + "/net.d", template: directory + "/template.json",
            pluginDirectories: [directory + "/bin", "/usr/lib/cni"], cacheDirectory: directory + "/cache", pluginDeadline: pluginDeadline,
            hostNamespace: directory + "/host")
        configuration.allowsSpoofing = allowsSpoofing
        configuration.statusGrace = statusGrace
        self.configuration = configuration
        networks = PodNetworks(configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        for name in ["net.d", "bin", "pods"] {
            try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        }
        try NetworkNamespace.create(at: directory + "/host")
        try configure(
            """
            {"cniVersion": "\(cniVersion)", "name": "test", "plugins": [\(([Self.bridge(directory)] + plugins).joined(separator: ","))]}
            """)
    }

    deinit {
        for pod in (try? FileManager.default.contentsOfDirectory(atPath: directory + "/pods")) ?? [] {
            try? NetworkNamespace.delete(at: "\(directory)/pods/\(pod)")
        }
        try? NetworkNamespace.delete(at: directory + "/host")
        try? FileManager.default.removeItem(atPath: directory)
    }

    static func bridge(_ directory: String) -> String {
        """
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "mtu": 1420, "ipam":
        {"type": "host-local", "dataDir": "\(directory)/pool", "ranges": [[{"subnet": "10.77.0.0/16"}], [{"subnet": "fd00:77::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}
        """
    }

    static let portmap = #"{"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}"#
    static let firewall = #"{"type": "firewall", "backend": "iptables"}"#
    static let bandwidth = #"{"type": "bandwidth", "capabilities": {"bandwidth": true}}"#
    static let tuning = #"{"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}"#

    func configure(_ text: String, file: String = "10-test.conflist") throws {
        try text.write(toFile: "\(directory)/net.d/\(file)", atomically: true, encoding: .utf8)
    }

    /// Installs a shell script as a plugin; each call is noted in "calls" first.
    func install(plugin: String, _ script: String) throws {
        let path = "\(directory)/bin/\(plugin)"
        let text = "#!/bin/sh\ninput=$(cat)\necho \"\(plugin) $CNI_COMMAND\" >> \(directory)/calls\n\(script)\n"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o755)
    }

    var calls: [String] {
        ((try? String(contentsOfFile: directory + "/calls", encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
    }

    func request(_ pod: String, ports: [PortMapping] = [], bandwidth: Bandwidth? = nil) -> PodNetworkRequest {
        PodNetworkRequest(
            podID: pod, podName: "web", podNamespace: "default", podUID: "uid-\(pod)", namespacePath: "\(directory)/pods/\(pod)",
            portMappings: ports, bandwidth: bandwidth)
    }

    func attach(_ request: PodNetworkRequest) async throws -> AttachedNetwork {
        try await networks.createNamespace(path: request.namespacePath)
        return try await networks.attach(request)
    }

    /// Links, iptables rules and reserved addresses: what must be as before when pods are gone.
    func traces() async throws -> [String] {
        let host = directory + "/host"
        let links = try await NetworkNamespace.run(in: host) { try RouteNetlink().links().map(\.name) }
        let rules = try await NetworkNamespace.run(in: host) {
            try ["iptables-save", "ip6tables-save"].flatMap {
                try Spawn("/usr/sbin/\($0)").runAndWait().outputText.split(separator: "\n").map(String.init)
            }
        }
        let pool = ((try? FileManager.default.contentsOfDirectory(atPath: directory + "/pool/test")) ?? [])
            .filter { $0 != "lock" && !$0.hasPrefix("last_reserved") }
        let records = (try? FileManager.default.contentsOfDirectory(atPath: directory + "/cache")) ?? []
        // Counters in brackets and the dated comments differ from one call to the next.
        return (links + rules.filter { !$0.hasPrefix("#") }.map { $0.split(separator: "[")[0].description } + pool + records).sorted()
    }
}
