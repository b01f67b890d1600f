import Errors
import Foundation
import Glibc
import Linux
import Runtime

/// The files that containers of a pod see in /etc.
struct EtcFiles: Sendable {
    var hostname: String
    var hosts: String
    var resolver: String

    init(_ spec: SandboxSpec, _ network: SandboxNetwork) {
        let isNode = spec.networkMode == .node
        hostname = (isNode ? NodeName.current : spec.effectiveHostname) + "\n"
        let nodeHosts = KernelFile.text("/etc/hosts", limit: 1 << 20) ?? ""
        let own = (network.attached?.podIPs ?? []).map { "\($0)\t\(spec.effectiveHostname)\n" }.joined()
        hosts = isNode ? nodeHosts : "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + own
        // A kubelet says what the pod's is; without its word, it is the node's.
        guard let dns = spec.dns else {
            resolver = KernelFile.text("/etc/resolv.conf", limit: 1 << 20) ?? ""
            return
        }
        resolver = Self.resolver(servers: dns.servers, searches: dns.searches, options: dns.options)
    }

    static func resolver(servers: [String], searches: [String], options: [String]) -> String {
        (searches.isEmpty ? "" : "search \(searches.joined(separator: " "))\n")
            + servers.map { "nameserver \($0)\n" }.joined() + (options.isEmpty ? "" : "options \(options.joined(separator: " "))\n")
    }

    /// Blocks.
    func write(_ names: HostNames) throws {
        for (name, text) in [("hostname", hostname), ("hosts", hosts), ("resolv.conf", resolver)] {
            let path = names.file(name)
            do {
                try Data(text.utf8).write(to: URL(fileURLWithPath: path))
                try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
            } catch {
                throw SwiftletError(.internal, "write \(path)", cause: error)
            }
        }
    }
}
