import Linux
import Runtime
import YAML

/// NoCloud's network-config, version 2: what cloud-init 22.4 renders alike for netplan, networkd, ifupdown and sysconfig, as far as they can.
struct NetworkConfig {
    let document: YAMLValue

    /// Nil: the seed has none, and the image does what it does by itself.
    init?(_ request: SeedRequest) {
        guard let network = request.network, request.annotations.networkConfig != .none else { return nil }
        let usesDHCP = request.annotations.networkConfig == .dhcp
        let interfaces = GuestInterface.all(of: network)
        document = .map([
            ("version", .integer(2)),
            (
                "ethernets",
                .map(
                    interfaces.enumerated().map { index, interface in
                        var members: [(String, YAMLValue)] = [
                            ("match", .map([("macaddress", .string(interface.mac))])), ("set-name", .string(interface.name)),
                        ]
                        if let mtu = interface.mtu { members.append(("mtu", .integer(mtu))) }
                        members += usesDHCP ? Self.dhcp(interface) : Self.addresses(interface)
                        if !usesDHCP, index == 0, let servers = Self.nameservers(request.dns) { members.append(("nameservers", servers)) }
                        return (interface.name, .map(members))
                    })
            ),
        ])
    }

    private static func dhcp(_ interface: GuestInterface) -> [(String, YAMLValue)] {
        let hasIPv6 = interface.addresses.contains { $0.address.isIPv6 }
        let hasIPv4 = interface.addresses.contains { !$0.address.isIPv6 }
        return [("dhcp4", .bool(hasIPv4 || !hasIPv6))] + (hasIPv6 ? [("dhcp6", .bool(true))] : [])
    }

    private static func addresses(_ interface: GuestInterface) -> [(String, YAMLValue)] {
        var members: [(String, YAMLValue)] = []
        if !interface.addresses.isEmpty { members.append(("addresses", .strings(interface.addresses.map(\.description)))) }
        let foreign = interface.foreignGateways
        var routes = foreign.map { gateway in
            // Without one, networkd has no way to the gateway: it is not told of on-link.
            YAMLValue.map([("to", .string("\(gateway)/\(gateway.bytes.count * 8)")), ("scope", .string("link"))])
        }
        var gateway6: IPAddress?
        for route in interface.routes {
            guard let gateway = route.gateway else {
                let isThere = foreign.contains { route.destination.address == $0 && route.destination.length == $0.bytes.count * 8 }
                if !isThere { routes.append(.map([("to", .string("\(route.destination)")), ("scope", .string("link"))])) }
                continue
            }
            // networkd's renderer writes ::/0 as ::/64, and none but netplan's knows "default".
            if route.destination.isDefault, gateway.isIPv6, gateway6 == nil {
                gateway6 = gateway
                continue
            }
            var members = [("to", YAMLValue.string("\(route.destination)")), ("via", .string("\(gateway)"))]
            if foreign.contains(gateway) { members.append(("on-link", .bool(true))) }
            routes.append(.map(members))
        }
        if let gateway6 { members.append(("gateway6", .string("\(gateway6)"))) }
        if !routes.isEmpty { members.append(("routes", .sequence(routes))) }
        return members
    }

    private static func nameservers(_ dns: SandboxSpec.DNS) -> YAMLValue? {
        let servers = dns.servers.filter { IPAddress($0) != nil }
        guard !servers.isEmpty || !dns.searches.isEmpty else { return nil }
        return .map(
            (servers.isEmpty ? [] : [("addresses", .strings(servers))])
                + (dns.searches.isEmpty ? [] : [("search", .strings(dns.searches))]))
    }
}
