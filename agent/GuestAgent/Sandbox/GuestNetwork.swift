import AgentProtocol
import Errors
import Linux

/// Gives the guest's network devices the names, addresses and routes of the pod.
enum GuestNetwork {
    /// Applies everything; repeating it changes nothing.
    ///
    /// - Throws: `.notFound` when no device has an interface's MAC; `.invalidArgument` for malformed values.
    static func configure(interfaces: [AgentInterface], routes: [AgentRoute]) throws {
        let netlink = try RouteNetlink()
        if let loopback = try netlink.links().first(where: \.isLoopback) {
            try netlink.change(link: loopback.index, LinkChange(up: true))
        }
        for interface in interfaces {
            do {
                try configure(interface, netlink)
            } catch {
                throw SwiftletError.wrap(error, "network interface \(interface.name)")
            }
        }
        guard !routes.isEmpty else { return }
        let links = try netlink.links()
        // Routes on the link come first: gateways have to be reachable.
        for route in routes.sorted(by: { $0.gateway.isEmpty && !$1.gateway.isEmpty }) {
            try netlink.add(route: linkRoute(route, links), replacing: true)
        }
    }

    private static func configure(_ interface: AgentInterface, _ netlink: RouteNetlink) throws {
        let link = try find(interface, netlink)
        // A device takes a new name and address only while it is down.
        if link.isUp { try netlink.change(link: link.index, LinkChange(up: false)) }
        // The addresses are those of the request: nobody on the link gives others, from which nothing would leave the pod.
        if !interface.addresses.isEmpty {
            for setting in ["accept_ra", "autoconf"] { try? KernelFile.write("0", to: "/proc/sys/net/ipv6/conf/\(link.name)/\(setting)") }
        }
        var change = LinkChange(up: true)
        if !interface.name.isEmpty, interface.name != link.name {
            try free(interface.name, netlink)
            change.name = interface.name
        }
        if !interface.mac.isEmpty { change.mac = try mac(interface.mac) }
        if interface.mtu > 0 { change.mtu = Int(interface.mtu) }
        try netlink.change(link: link.index, change)

        let present = try Set(netlink.addresses(link: link.index).map(\.prefix))
        for address in interface.addresses {
            guard let prefix = IPPrefix(address) else {
                throw SwiftletError(.invalidArgument, "address \"\(address)\" is not in CIDR form")
            }
            if !present.contains(prefix) { try netlink.add(address: prefix, link: link.index) }
        }
    }

    /// The kernel has given the name to another device, which gets its own after this one.
    private static func free(_ name: String, _ netlink: RouteNetlink) throws {
        guard let other = try netlink.links().first(where: { $0.name == name }) else { return }
        if other.isUp { try netlink.change(link: other.index, LinkChange(up: false)) }
        var change = LinkChange()
        change.name = "swnic\(other.index)"
        try netlink.change(link: other.index, change)
    }

    /// The driver may still be looking for its device: waits about ten seconds, counted because a guest's clock may jump.
    private static func find(_ interface: AgentInterface, _ netlink: RouteNetlink) throws -> NetworkLink {
        let before = try mac(interface.deviceMac)
        let after = interface.mac.isEmpty ? before : try mac(interface.mac)
        for _ in 0..<2000 {
            let links = try netlink.links().filter { !$0.isLoopback }
            // Configured before. Devices of different parents may have one address.
            let again = { (link: NetworkLink) in link.mac == after && link.name == interface.name }
            if let link = links.first(where: { $0.mac == before }) ?? links.first(where: again) { return link }
            Pause.milliseconds(5)
        }
        throw SwiftletError(.notFound, "no device has the address \(interface.deviceMac)")
    }

    private static func linkRoute(_ route: AgentRoute, _ links: [NetworkLink]) throws -> LinkRoute {
        guard let destination = IPPrefix(route.destination) else {
            throw SwiftletError(.invalidArgument, "route destination \"\(route.destination)\" is not in CIDR form")
        }
        guard let link = links.first(where: { $0.name == route.interface }) else {
            throw SwiftletError(.notFound, "route to \(route.destination): no interface \(route.interface)")
        }
        return LinkRoute(
            destination: destination, gateway: try address(route.gateway), link: link.index, source: try address(route.source),
            scope: route.scope > 0 ? UInt8(clamping: route.scope) : nil, mtu: route.mtu > 0 ? Int(route.mtu) : nil,
            onLink: !route.gateway.isEmpty)
    }

    private static func address(_ text: String) throws -> IPAddress? {
        if text.isEmpty { return nil }
        guard let address = IPAddress(text) else { throw SwiftletError(.invalidArgument, "\"\(text)\" is no IP address") }
        return address
    }

    private static func mac(_ text: String) throws -> MACAddress {
        guard let mac = MACAddress(text) else { throw SwiftletError(.invalidArgument, "\"\(text)\" is no MAC address") }
        return mac
    }
}
