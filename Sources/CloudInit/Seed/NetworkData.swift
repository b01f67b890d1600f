import Linux
import Runtime

/// ConfigDrive's network_data.json, as OpenStack's Nova writes it and cloudbase-init reads it.
struct NetworkData {
    private let document: JSONValue

    /// Nil: the seed has none.
    init?(_ request: SeedRequest) {
        guard let network = request.network, request.annotations.networkConfig != .none else { return nil }
        let interfaces = GuestInterface.all(of: network)
        let links = interfaces.map { interface in
            var link: [String: JSONValue] = [
                "id": .string(interface.name), "name": .string(interface.name), "type": "phy",
                "ethernet_mac_address": .string(interface.mac),
            ]
            if let mtu = interface.mtu { link["mtu"] = .integer(Int64(mtu)) }
            return JSONValue.object(link)
        }
        let usesDHCP = request.annotations.networkConfig == .dhcp
        let services = request.dns.servers.filter { IPAddress($0) != nil }.map {
            JSONValue.object(["type": "dns", "address": .string($0)])
        }
        var networks: [JSONValue] = []
        for interface in interfaces {
            for network in Self.networks(interface, usesDHCP) {
                networks.append(.object(network.merging(["id": .string("network\(networks.count)")]) { $1 }))
            }
        }
        document = .object(["links": .array(links), "networks": .array(networks), "services": .array(services)])
    }

    func json() throws -> [UInt8] { try SeedJSON.encode(document) }

    private static func networks(_ interface: GuestInterface, _ usesDHCP: Bool) -> [[String: JSONValue]] {
        let link = JSONValue.string(interface.name)
        // Nothing in this format says that a gateway outside of the address's network is on the link: DHCP can.
        let needsDHCP = { (ipv6: Bool) in usesDHCP || interface.foreignGateways.contains { $0.isIPv6 == ipv6 } }
        var families: Set<Bool> = []
        return interface.addresses.compactMap { prefix in
            let isIPv6 = prefix.address.isIPv6
            let isFirst = families.insert(isIPv6).inserted
            let family = isIPv6 ? "ipv6" : "ipv4"
            if needsDHCP(isIPv6) { return isFirst ? ["type": .string(family + "_dhcp"), "link": link] : nil }
            var network: [String: JSONValue] = [
                "type": .string(family), "link": link, "ip_address": .string("\(prefix.address)"), "netmask": .string(mask(prefix)),
            ]
            let routes = isFirst ? interface.routes.filter { $0.destination.address.isIPv6 == isIPv6 } : []
            network["routes"] = .array(
                routes.compactMap { route in
                    route.gateway.map {
                        .object([
                            "network": .string("\(route.destination.network)"), "netmask": .string(mask(route.destination)),
                            "gateway": .string("\($0)"),
                        ])
                    }
                })
            return network
        }
    }

    private static func mask(_ prefix: IPPrefix) -> String {
        let count = prefix.address.bytes.count
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: 0xFF00 >> min(max(prefix.length - $0 * 8, 0), 8)) }
        return IPAddress(bytes: bytes).map(\.description) ?? ""
    }
}
