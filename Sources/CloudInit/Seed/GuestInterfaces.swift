import Linux
import Runtime

/// The pod's interfaces as a guest has to set them up: addresses and the routes that do not follow from them.
struct GuestInterface: Sendable, Equatable {
    struct Route: Sendable, Equatable {
        var destination: IPPrefix
        /// Nil: on the link.
        var gateway: IPAddress?
    }

    var name: String
    var mac: String
    /// Bytes; nil: not known.
    var mtu: Int?
    var addresses: [IPPrefix]
    /// In an order in which they can be added.
    var routes: [Route]

    /// The gateways that no address's network holds, such as Calico's 169.254.1.1: a route on the link has to lead to each of them.
    var foreignGateways: [IPAddress] {
        var found: [IPAddress] = []
        for gateway in routes.compactMap(\.gateway) where !isOnLink(gateway) && !found.contains(gateway) { found.append(gateway) }
        return found
    }

    func isOnLink(_ gateway: IPAddress) -> Bool {
        gateway.isIPv6 && gateway.isLinkLocal
            || addresses.contains { prefix in
                prefix.address.isIPv6 == gateway.isIPv6 && prefix.length < gateway.bytes.count * 8
                    && prefix.network == network(gateway, prefix.length)
            }
    }

    private func network(_ address: IPAddress, _ length: Int) -> IPAddress? { IPPrefix(address: address, length: length)?.network }

    static func all(of network: AttachedNetwork) -> [GuestInterface] {
        network.interfaces.enumerated().map { index, interface in
            // Linux makes link-local addresses itself, and routes to the networks of all addresses.
            let addresses = interface.addresses.compactMap { IPPrefix($0) }.filter { !($0.address.isIPv6 && $0.address.isLinkLocal) }
            let own = network.routes.filter { $0.interface == interface.name }
            let routes = own.compactMap { route -> Route? in
                guard let destination = IPPrefix(route.destination) else { return nil }
                if route.gateway.isEmpty {
                    let follows = addresses.contains { $0.length == destination.length && $0.network == destination.network }
                    return follows || destination.address.isMulticast || destination.address.isIPv6 && destination.address.isLinkLocal
                        ? nil : Route(destination: destination, gateway: nil)
                }
                return IPAddress(route.gateway).map { Route(destination: destination, gateway: $0) }
            }
            // cloud-init's renderers drop a route's MTU; the interface's own can stand in for the default route's.
            let pathMTU = own.filter { $0.mtu > 0 && IPPrefix($0.destination)?.isDefault == true }.map(\.mtu).min()
            let mtu = [interface.mtu, pathMTU ?? 0].filter { $0 > 0 }.min()
            let isName =
                (1...15).contains(interface.name.utf8.count) && interface.name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x2F }
            return GuestInterface(
                name: isName ? interface.name : "eth\(index)", mac: MACAddress(interface.mac)?.description ?? interface.mac, mtu: mtu,
                addresses: addresses, routes: routes)
        }
    }
}
