import Errors
import Foundation
import Linux

/// Where the download of a disk may lead this node.
///
/// A host that stands in the administrator's table is taken as it is; where it sends the node to is judged as a registry's redirects are. A
/// host that stands in a reference is the choice of whoever makes pods: it, and every host that it sends the node to, has public addresses
/// alone, or such as the configuration allows.
struct DiskDestinations: Sendable {
    let source: DiskSources.Source
    let reach: DiskSources.Reach
    let resolve: RegistryDestinations.Resolve

    /// - Parameters:
    ///   - redirector: what sent the node to the target; nil for the source's own URL.
    /// - Returns: the addresses that were judged, of which one is to be connected to: a name that is asked for again may lead elsewhere.
    ///   None where any is right, and where a proxy makes the connection.
    /// - Throws: `SwiftletError(.permissionDenied)` naming the target without its path and query.
    func addresses(of target: URL, from redirector: URL?, _ step: String) async throws -> [IPAddress] {
        guard let origin = RegistryDestinations.origin(of: target), let name = RegistryDestinations.host(of: target), target.user == nil,
            target.password == nil
        else {
            let what = redirector == nil ? "its URL" : "the redirect"
            throw SwiftletError(.permissionDenied, "\(step): \(what) is no http or https address of a host by its plain name")
        }
        if !source.isHostOfReference, origin == source.origin { return [] }
        if let redirector, !origin.hasPrefix("https:"), redirector.scheme?.lowercased() != "http" {
            throw SwiftletError(.permissionDenied, "\(step): the redirect to \(printable(origin, limit: 200)) is not encrypted")
        }
        let found: [IPAddress]
        do { found = try await resolve(name) } catch is RegistryFailure where source.hasProxy {
            // Where a proxy is needed, names of the world may be known to it alone.
            return []
        }
        for address in found where !reach.allowed(address) {
            guard let reason = reason(against: address) else { continue }
            throw SwiftletError(
                .permissionDenied,
                "\(step): \(redirector == nil ? "the host" : "the redirect to") \(printable(origin, limit: 200)) is refused: its address "
                    + "\(address) is \(reason); images.disks.allowed_networks can allow it")
        }
        return source.hasProxy ? [] : found
    }

    private func reason(against address: IPAddress) -> String? {
        if let reason = RegistryDestinations.reason(against: address.embedded, loopback: false) { return reason }
        guard source.isHostOfReference, let kind = Self.reserved.first(where: { $0.prefix.contains(address.embedded) }) else { return nil }
        return kind.isPrivate && reach.allowsPrivate ? nil : kind.name
    }

    /// What is nobody's in the world: IANA's special-purpose address registries.
    private static let reserved: [(prefix: IPPrefix, name: String, isPrivate: Bool)] = list.compactMap { text, name, isPrivate in
        IPPrefix(text).map { ($0, name, isPrivate) }
    }

    private static let list: [(String, String, Bool)] = [
        ("0.0.0.0/8", "this network itself", false), ("10.0.0.0/8", "private", true), ("100.64.0.0/10", "a provider's own", true),
        ("172.16.0.0/12", "private", true), ("192.0.0.0/24", "reserved", false), ("192.168.0.0/16", "private", true),
        ("198.18.0.0/15", "for measurements of networks", true), ("240.0.0.0/4", "reserved", false),
        ("::/96", "reserved", false), ("64:ff9b:1::/48", "a translator's own", true), ("100::/64", "discarded", false),
        ("fc00::/7", "unique-local", true), ("fec0::/10", "site-local", true),
    ]
}

extension DiskSources.Reach {
    func allowed(_ address: IPAddress) -> Bool { networks.contains { $0.contains(address) || $0.contains(address.embedded) } }
}

extension IPPrefix {
    func contains(_ other: IPAddress) -> Bool {
        other.isIPv6 == address.isIPv6 && IPPrefix(address: other, length: length)?.network == network
    }
}

extension IPAddress {
    /// The IPv4 address that packets to this one go to: of translated ones, and of 2002::/16 (6to4, RFC 3056).
    fileprivate var embedded: IPAddress {
        isIPv6 && bytes.starts(with: [0x20, 0x02]) ? IPAddress(bytes: bytes[2..<6]) ?? self : unmapped
    }
}
