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

    static func dhcp(_ bytes: [UInt8]) {
        guard var offer, let request = DHCPRequest(frame: bytes) else { return }
        offer.mac = request.mac
        guard let answer = DHCPAnswer(to: request, offer) else { return }
        precondition(answer.frame.count <= 14 + 1500)
    }
}
