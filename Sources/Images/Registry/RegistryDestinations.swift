import Concurrency
import Errors
import Foundation
import Glibc
import Linux

/// Where a registry may send this node: by redirects, and to token servers.
///
/// What a registry answers is chosen by whoever runs it, and the node reaches more than they do. Its own origin is free; another one is
/// reached by https unless the registry itself is configured with plain http, and never at an address that belongs to the node's own
/// surroundings. The administrator's `allowed_redirects` are taken as they are.
struct RegistryDestinations: Sendable {
    typealias Resolve = @Sendable (_ host: String) async throws -> [IPAddress]

    let endpoint: RegistryEndpoint
    /// Origins: `https://storage.example.com`, `http://storage.internal:9000`.
    let allowed: [String]
    /// Whether the administrator has named the registry.
    let isConfigured: Bool
    let resolve: Resolve

    init(endpoint: RegistryEndpoint, allowed: [String], isConfigured: Bool, resolve: @escaping Resolve) {
        self.endpoint = endpoint
        self.allowed = allowed
        self.isConfigured = isConfigured
        self.resolve = resolve
    }

    /// Those of an endpoint by the administrator's configuration, in which a mirror stands by being one.
    init(endpoint: RegistryEndpoint, _ registries: [RegistryConfiguration], resolve: @escaping Resolve) {
        let registry = registries.first { $0.host == endpoint.host }
        self.init(
            endpoint: endpoint, allowed: registry?.allowedRedirects ?? [], isConfigured: registry != nil || endpoint.isMirror,
            resolve: resolve)
    }

    private var isPlain: Bool { endpoint.origin.hasPrefix("http:") }

    /// - Throws: `SwiftletError(.permissionDenied)` when the registry's own name leads to such an address.
    func checkRegistry(_ step: String) async throws {
        guard !isConfigured else { return }
        guard let host = URL(string: endpoint.origin).flatMap(Self.host) else { throw refusal(step, "registry", "has no name of a host") }
        try await checkAddresses(of: host, loopback: true, "\(step): the registry")
    }

    /// - Parameters:
    ///   - source: what named the target; nil for the registry's own word in a header.
    ///   - what: "redirect", "token server".
    /// - Throws: `SwiftletError(.permissionDenied)` naming the target without its path and query.
    func check(_ target: URL, from source: URL? = nil, _ what: String, _ step: String) async throws {
        guard let origin = Self.origin(of: target), let host = Self.host(of: target), target.user == nil, target.password == nil else {
            throw refusal(step, what, "is no http or https address")
        }
        if origin == endpoint.origin || allowed.contains(origin) { return }
        let shown = "to \(printable(origin, limit: 200))"
        guard origin.hasPrefix("https:") || isPlain && source.map({ $0.scheme == "http" }) ?? true else {
            throw refusal(step, what, "\(shown) is not encrypted")
        }
        try await checkAddresses(
            of: host, loopback: RegistryEndpoint.isLoopback(endpoint.host), "\(step): the \(what) \(shown)")
    }

    /// `scheme://host:port`, without the port that goes without saying; nil for what is no web address.
    static func origin(of url: URL) -> String? {
        guard let scheme = url.scheme?.lowercased(), scheme == "http" || scheme == "https", let host = host(of: url) else { return nil }
        let name = host.contains(":") ? "[\(host.lowercased())]" : host.lowercased()
        guard let port = url.port, port != (scheme == "https" ? 443 : 80) else { return "\(scheme)://\(name)" }
        return "\(scheme)://\(name):\(port)"
    }

    /// The host as AsyncHTTPClient has it, which connects to it: `URLComponents` decodes names that begin with xn--. An IPv6 address without
    /// brackets.
    ///
    /// - Returns: nil for one with escapes and for what is no name: a zero byte ends it for the resolver alone.
    static func host(of url: URL) -> String? {
        guard let host = url.host, !host.isEmpty, URLComponents(string: url.absoluteString)?.encodedHost?.contains("%") == false else {
            return nil
        }
        let plain = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        let isName = plain.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-._:".contains($0)) }
        return isName && !plain.isEmpty ? plain : nil
    }

    private func checkAddresses(of host: String, loopback: Bool, _ what: String) async throws {
        for address in try await resolve(host) {
            if let reason = Self.reason(against: address, loopback: loopback) {
                throw SwiftletError(
                    .permissionDenied, "\(what) is refused: its address \(address) is \(reason); registries.allowed_redirects can allow it")
            }
        }
    }

    private func refusal(_ step: String, _ what: String, _ reason: String) -> SwiftletError {
        SwiftletError(.permissionDenied, "\(step): the \(what) \(reason); registries.allowed_redirects can allow it")
    }

    /// Why no registry may send the node to this address; nil when it may.
    static func reason(against address: IPAddress, loopback: Bool) -> String? {
        let address = address.unmapped
        if address.isLinkLocal { return "link-local, where clouds serve a machine's credentials" }
        if metadata.contains(address) { return "a cloud's metadata server" }
        if address.isUnspecified { return "this node itself" }
        if address.isMulticast { return "multicast" }
        if address.isLoopback, !loopback { return "this node itself" }
        return nil
    }

    /// Metadata servers that are not link-local: AWS (IPv6), Alibaba, Azure.
    private static let metadata = Set(["fd00:ec2::254", "100.100.100.200", "168.63.129.16"].compactMap { IPAddress($0) })

    /// By the node's resolver. Blocks.
    ///
    /// - Throws: a `RegistryFailure` that may pass.
    static func lookUp(_ host: String) throws -> [IPAddress] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host, nil, &hints, &list)
        guard result == 0 else {
            let reason = String(cString: gai_strerror(result))
            throw RegistryFailure(error: SwiftletError(.unavailable, "\(printable(host)) cannot be resolved: \(reason)"), isTransient: true)
        }
        defer { freeaddrinfo(list) }
        return sequence(first: list) { $0?.pointee.ai_next }.prefix { $0 != nil }.compactMap { entry in
            guard let entry = entry?.pointee, let address = entry.ai_addr else { return nil }
            let raw = UnsafeRawBufferPointer(start: address, count: Int(entry.ai_addrlen))
            // sockaddr_in and sockaddr_in6: ip(7), ipv6(7).
            return entry.ai_family == AF_INET6 ? IPAddress(bytes: raw[8..<24]) : IPAddress(bytes: raw[4..<8])
        }
    }
}
