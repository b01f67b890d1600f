import Linux
import Runtime

/// What a pod's guest may send: frames from the addresses that the CNI plug-ins gave it. It may not speak for others: no foreign
/// MAC or IP address, no ARP or neighbour advertisement for one, no router advertisement, no DHCP server's answer.
enum SourceGuard {
    private typealias Match = FrameRule.Match

    private static let ipv4: UInt16 = 0x0800
    private static let arp: UInt16 = 0x0806
    private static let ipv6: UInt16 = 0x86DD

    /// Rules for what the guest's tap receives; what none of them lets through is to be dropped.
    ///
    /// - Parameters:
    ///   - interface: whose place the guest takes.
    ///   - target: its index.
    static func rules(for interface: AttachedInterface, to target: Int32) -> [FrameRule] {
        guard let mac = MACAddress(interface.mac)?.bytes else { return [] }
        let addresses = interface.addresses.compactMap { IPPrefix($0)?.address.bytes }
        let sender = [word(-8, mac[0], mac[1], mac[2], mac[3]), word(-4, mask: 0xFFFF_0000, mac[4], mac[5], 0, 0)]
        // The plug-ins leave the addresses to the guest: it is known by its MAC address alone.
        guard !addresses.isEmpty else { return [FrameRule(sender, .redirect(target))] }
        return ipv4Rules(addresses.filter { $0.count == 4 }, sender, target)
            + arpRules(addresses.filter { $0.count == 4 }, mac, sender, target)
            + ipv6Rules(addresses.filter { $0.count == 16 } + [linkLocal(mac)], sender, target)
    }

    private static func ipv4Rules(_ addresses: [[UInt8]], _ sender: [Match], _ target: Int32) -> [FrameRule] {
        let plain = byte(0, 0x45)
        // From a DHCP server: UDP, port 67, which the first piece of a datagram holds.
        let first = word(4, mask: 0x0000_1FFF, 0, 0, 0, 0)
        let server = FrameRule(etherType: ipv4, [plain, byte(9, 17), first, word(20, mask: 0xFFFF_0000, 0, 67, 0, 0)], .drop)
        return [server]
            + addresses.flatMap { address in
                let source = sender + [word(12, address[0], address[1], address[2], address[3])]
                return [
                    FrameRule(etherType: ipv4, source + [plain], .redirect(target)),
                    // IGMP has the router alert option; no other protocol needs options, which would hide its ports.
                    FrameRule(etherType: ipv4, source + [byte(0, 0x46), byte(9, 2)], .redirect(target)),
                ]
            }
    }

    private static func arpRules(_ addresses: [[UInt8]], _ mac: [UInt8], _ sender: [Match], _ target: Int32) -> [FrameRule] {
        func from(_ address: [UInt8]) -> [Match] {
            [
                word(8, mac[0], mac[1], mac[2], mac[3]), word(12, mac[4], mac[5], address[0], address[1]),
                word(16, mask: 0xFFFF_0000, address[2], address[3], 0, 0),
            ]
        }
        return addresses.flatMap { own in
            [
                FrameRule(etherType: arp, sender + from(own), .redirect(target)),
                // Whether an address is in use is asked without one. For another's it would keep that from being taken.
                FrameRule(etherType: arp, sender + from([0, 0, 0, 0]) + words(24, own), .redirect(target)),
            ]
        }
    }

    private static func ipv6Rules(_ addresses: [[UInt8]], _ sender: [Match], _ target: Int32) -> [FrameRule] {
        let (icmp, unspecified) = (byte(6, 58), [UInt8](repeating: 0, count: 16))
        var rules: [FrameRule] = []
        func add(_ matches: [Match], _ verdict: FrameRule.Verdict) {
            rules.append(FrameRule(etherType: ipv6, matches, verdict))
        }
        func addFragments() {
            let (fragment, first) = (byte(6, 44), word(40, mask: 0x0000_FFF8, 0, 0, 0, 0))
            for header: UInt8 in [0, 43, 44, 60] { add([fragment, byte(40, header)], .drop) }
            // Of ICMPv6 only an echo is long enough for pieces.
            for address in addresses {
                for echo: UInt8 in [128, 129] {
                    add(sender + source(address) + [fragment, byte(40, 58), first, byte(48, echo)], .redirect(target))
                }
            }
            add([fragment, byte(40, 58), first], .drop)
            add([fragment, byte(40, 17), first, word(48, mask: 0xFFFF_0000, 2, 35, 0, 0)], .drop)
        }
        // Multicast listeners report behind a hop-by-hop header. Other extension headers would hide what follows them.
        for address in addresses + [unspecified] {
            for report: UInt8 in [131, 132, 143] {
                add(sender + source(address) + [byte(6, 0), byte(40, 58), byte(41, 0), byte(48, report)], .redirect(target))
            }
        }
        // Tunnels have an option of eight bytes: Linux's own limit of encapsulation.
        for address in addresses {
            for tunnelled: UInt8 in [4, 41, 47] {
                add(sender + source(address) + [byte(6, 60), byte(40, tunnelled), byte(41, 0)], .redirect(target))
            }
        }
        for header: UInt8 in [0, 43, 60] { add([byte(6, header)], .drop) }
        addFragments()
        // Router advertisement and redirect.
        for type: UInt8 in [134, 137] { add([icmp, byte(40, type)], .drop) }
        // Neighbour advertisement: for an address of its own.
        for address in addresses {
            for advertised in addresses {
                add(sender + source(address) + [icmp, byte(40, 136)] + words(48, advertised), .redirect(target))
            }
        }
        add([icmp, byte(40, 136)], .drop)
        // From a DHCPv6 server: UDP, port 547.
        add([byte(6, 17), word(40, mask: 0xFFFF_0000, 2, 35, 0, 0)], .drop)
        // Whether an address is in use is asked without one. For another's it would keep that from being taken.
        for address in addresses { add(sender + source(unspecified) + [icmp, byte(40, 135)] + words(48, address), .redirect(target)) }
        for address in addresses { add(sender + source(address), .redirect(target)) }
        return rules
    }

    /// The address that Linux gives itself on the link: EUI-64 (RFC 4291, appendix A).
    private static func linkLocal(_ mac: [UInt8]) -> [UInt8] {
        [0xFE, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, mac[3], mac[4], mac[5]]
    }

    // MARK: Matches

    private static func source(_ address: [UInt8]) -> [Match] { words(8, address) }

    private static func words(_ offset: Int, _ bytes: [UInt8]) -> [Match] {
        stride(from: 0, to: bytes.count, by: 4).map { word(offset + $0, bytes[$0], bytes[$0 + 1], bytes[$0 + 2], bytes[$0 + 3]) }
    }

    private static func word(_ offset: Int, mask: UInt32 = .max, _ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) -> Match {
        Match(at: offset, mask: mask, value: UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d))
    }

    private static func byte(_ offset: Int, _ value: UInt8) -> Match {
        let shift = UInt32(24 - offset % 4 * 8)
        return Match(at: offset - offset % 4, mask: 0xFF << shift, value: UInt32(value) << shift)
    }
}
