import AgentClient
import AgentProtocol
import Concurrency
import Foundation
import Linux
import PodNetwork
import Runtime

extension MicroVMHandler {
    /// What the agent needs to make the guest this pod's.
    func sandboxRequest(_ names: MachineNames, _ spec: SandboxSpec, _ network: AttachedNetwork) async -> AgentStartSandboxRequest {
        let resolvConf = await Self.resolvConf(spec.dns)
        let passed = Set(network.interfaces.map(\.name))
        return .with {
            $0.sandboxID = names.id
            $0.hostname = spec.effectiveHostname
            $0.resolvConf = resolvConf
            $0.etcHosts = Self.hosts(spec, network)
            $0.sysctls = spec.guestSysctls
            $0.interfaces = network.interfaces.enumerated().map { number, interface in
                .with {
                    $0.deviceMac = number == 0 ? names.bootMAC : names.furtherMAC(number)
                    $0.name = interface.name
                    $0.mac = interface.mac
                    $0.mtu = UInt32(clamping: interface.mtu)
                    $0.addresses = interface.addresses
                }
            }
            $0.routes = network.routes.filter { passed.contains($0.interface) }.map { route in
                .with {
                    $0.destination = route.destination
                    $0.gateway = route.gateway
                    $0.interface = route.interface
                    $0.mtu = UInt32(clamping: route.mtu)
                    $0.source = route.source
                    $0.scope = UInt32(clamping: route.scope)
                }
            }
            $0.scratchSerial = names.scratchSerial
            $0.timeNs = WallClock.now()
            $0.entropy = Data(AgentClient.token())
            $0.sharePidNamespace = spec.sharesPidNamespace
        }
    }

    /// The containers' /etc/resolv.conf: what the request says, else the node's own (resolv.conf(5)).
    static func resolvConf(_ dns: SandboxSpec.DNS?) async -> String {
        guard let dns, dns != SandboxSpec.DNS(servers: [], searches: [], options: []) else {
            return (try? await OwnThread.run { try String(contentsOfFile: "/etc/resolv.conf", encoding: .utf8) }) ?? ""
        }
        var lines: [String] = []
        if !dns.searches.isEmpty { lines.append("search " + dns.searches.joined(separator: " ")) }
        lines += dns.servers.map { "nameserver \($0)" }
        if !dns.options.isEmpty { lines.append("options " + dns.options.joined(separator: " ")) }
        return lines.map { $0 + "\n" }.joined()
    }

    /// The /etc/hosts of containers that mount none of their own.
    static func hosts(_ spec: SandboxSpec, _ network: AttachedNetwork) -> String {
        var lines = [
            "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::0\tip6-localnet", "ff02::1\tip6-allnodes",
            "ff02::2\tip6-allrouters",
        ]
        lines += network.addresses.map { "\($0.prefix { $0 != "/" })\t\(spec.effectiveHostname)" }
        return lines.map { $0 + "\n" }.joined()
    }
}

extension SandboxSpec {
    /// The client's sysctls, and those that a user namespace needs.
    var guestSysctls: [String: String] {
        guard userNamespace != nil else { return sysctls }
        // The network namespace is the guest's, where root of a user namespace has no capability: what the default capability
        // NET_BIND_SERVICE is for is open to everybody in this pod.
        let opened = ["net.ipv4.ip_unprivileged_port_start": "0"]
        return sysctls.merging(opened) { asked, _ in asked }
    }
}
