import Linux
import Runtime

@testable import DHCP

/// What a guest sends to the server of its address.
enum AddressFuzz {
    private static let offer: AddressOffer? = {
        let network = AttachedNetwork(
            interfaceName: "eth0", mac: "02:00:00:00:00:07", mtu: 1450, addresses: ["10.1.2.3/32"],
            routes: [NetworkRoute(destination: "0.0.0.0/0", gateway: "169.254.1.1", interface: "eth0")])
        return AddressOffer(
            network.primary, of: network, dns: NetworkDNS(nameservers: ["10.96.0.10"], search: ["cluster.local"]), hostname: "web-0")
    }()

    private static let ipv6: IPv6Offer? = {
        let network = AttachedNetwork(
            interfaceName: "eth0", mac: "02:00:00:00:00:07", mtu: 1450, addresses: ["fd00::5/64"],
            routes: [NetworkRoute(destination: "::/0", gateway: "fd00::1", interface: "eth0")])
        return IPv6Offer(network.primary, of: network, dns: NetworkDNS(nameservers: ["fd00::10"], search: ["cluster.local"]))
    }()

    /// What a guest sends to a DHCPv6 server and to routers, and what its network says of the gateway.
    static func ipv6(_ bytes: [UInt8]) {
        guard var offer = ipv6, let gateway = offer.gateway else { return }
        if let mac = Neighbour.mac(in: bytes, of: gateway) { precondition(mac.count == 6) }
        if let frame = IPv6Frame(bytes) {
            let router = RouterAdvertisement.Router(address: IPAddress.linkLocal(frame.sourceMAC), mac: frame.sourceMAC)
            if let answer = Neighbour.answer(frame, router) { precondition(answer.count == 86) }
        }
        guard let request = DHCPv6Request(frame: bytes) else { return }
        offer.mac = request.mac
        guard let answer = DHCPv6Answer(to: request, offer) else { return }
        precondition(answer.frame.count <= 14 + 8192 && IPv6Frame(answer.frame) != nil)
    }

    static func dhcp(_ bytes: [UInt8]) {
        guard var offer, let request = DHCPRequest(frame: bytes) else { return }
        offer.mac = request.mac
        guard let answer = DHCPAnswer(to: request, offer) else { return }
        precondition(answer.frame.count <= 14 + 1500)
    }
}
