import Errors
import Foundation
import Linux
import Runtime

/// Disk images that are named by where they are on the web, as Virtlet's are: `[images.disks]` of the configuration.
///
/// A reference is one of these when a translation is for it, or when it begins with the prefix; any other is a registry's.
public struct DiskSources: Sendable {
    public struct Translation: Sendable {
        /// What stands for the disk in references, without prefix and tag; nil where `regexp` is given.
        public var name: String?
        /// For the whole name; `$1` to `$9` in the URL are its groups.
        public var regexp: String?
        public var url: String
        /// Of `transports`; empty: the one called "default".
        public var transport: String
        /// 64 hexadecimal digits that the file must have; empty: any.
        public var sha256: String
        public var format: DiskImage.Format?

        public init(
            name: String? = nil, regexp: String? = nil, url: String, transport: String = "", sha256: String = "",
            format: DiskImage.Format? = nil
        ) {
            (self.name, self.regexp, self.url, self.transport) = (name, regexp, url, transport)
            (self.sha256, self.format) = (sha256, format)
        }
    }

    /// How servers are spoken to.
    public struct Transport: Sendable {
        /// For a connection, and without a byte.
        public var timeout: Duration
        public var maxRedirects: Int
        /// `http://host:port`; empty: none.
        public var proxy: String
        /// PEM; empty: the node's authorities.
        public var authorities: String
        /// PEM, of this node; empty: none.
        public var certificate: String
        public var key: String
        /// What the certificate of the URL's host is for, where that is not the host; empty: the host.
        public var serverName: String
        /// Whether certificates are not looked at.
        public var isInsecure: Bool

        public init(
            timeout: Duration = .seconds(300), maxRedirects: Int = 5, proxy: String = "", authorities: String = "",
            certificate: String = "", key: String = "", serverName: String = "", isInsecure: Bool = false
        ) {
            (self.timeout, self.maxRedirects, self.proxy) = (timeout, maxRedirects, proxy)
            (self.authorities, self.certificate, self.key) = (authorities, certificate, key)
            (self.serverName, self.isInsecure) = (serverName, isInsecure)
        }
    }

    /// Addresses that are not the world's and yet may be reached for a reference.
    public struct Reach: Sendable {
        /// Private, unique-local and providers' own ones; no loopback, no link-local ones and no cloud's metadata server.
        public var allowsPrivate: Bool
        /// Whatever is in them.
        public var networks: [IPPrefix]

        public init(allowsPrivate: Bool = false, networks: [IPPrefix] = []) {
            (self.allowsPrivate, self.networks) = (allowsPrivate, networks)
        }
    }

    /// What references begin with whose rest is host and path; empty: none do.
    public var prefix: String
    /// Of URLs that no translation gives.
    public var scheme: String
    /// Fixed names come before regular expressions, whatever their order.
    public var translations: [Translation]
    public var transports: [String: Transport]
    /// Of hosts that references name, and of those that any host sends this node to.
    public var reach: Reach

    public init(
        prefix: String = "", scheme: String = "https", translations: [Translation] = [], transports: [String: Transport] = [:],
        reach: Reach = Reach()
    ) {
        (self.prefix, self.scheme, self.translations, self.transports) = (prefix, scheme, translations, transports)
        self.reach = reach
    }

    /// Where one disk is.
    struct Source: Sendable {
        var url: String
        var transport: Transport
        var digest: Digest?
        var format: DiskImage.Format?
        /// Whether who wrote the reference has chosen the URL's host, or a part of it; otherwise the administrator has.
        var isHostOfReference: Bool

        /// As ``RegistryDestinations/origin(of:)`` has it.
        var origin: String? { URL(string: url).flatMap(RegistryDestinations.origin) }
        var hasProxy: Bool { !transport.proxy.isEmpty }
    }

    /// Where the disk of a reference is; nil for one of a registry.
    ///
    /// - Throws: `SwiftletError(.invalidArgument)` for digests that contradict each other, and for what is no http URL.
    func source(of reference: ImageReference) throws -> Source? {
        let isPrefixed = !prefix.isEmpty && reference.host == prefix
        var name = isPrefixed ? reference.path : reference.name
        // `cirros` is docker.io/library/cirros to a kubelet.
        for familiar in ["docker.io/library/", "docker.io/"] where !isPrefixed && name.hasPrefix(familiar) {
            name.removeFirst(familiar.count)
        }
        guard let (url, found) = try translated(name) ?? (isPrefixed ? ("\(scheme)://\(name)", nil) : nil) else { return nil }
        let parts = URLComponents(string: url)
        guard let parts, parts.scheme == "http" || parts.scheme == "https", parts.host?.isEmpty == false, parts.user == nil else {
            throw SwiftletError(.invalidArgument, "\(quoted(url)) is no http or https URL without a user")
        }
        let pinned = try (found?.sha256).flatMap { $0.isEmpty ? nil : try Digest("sha256:\($0)") }
        if let pinned, let wanted = reference.digest, pinned != wanted {
            throw SwiftletError(.invalidArgument, "the name wants \(wanted), images.disks \(pinned)")
        }
        let transport = found?.transport ?? ""
        guard let known = transports[transport.isEmpty ? "default" : transport] ?? (transport.isEmpty ? Transport() : nil) else {
            throw SwiftletError(.invalidArgument, "images.disks has no transport \(quoted(transport))")
        }
        return Source(
            url: url, transport: known, digest: pinned ?? reference.digest, format: found?.format,
            isHostOfReference: found.map(Self.isHostOfReference) ?? true)
    }

    /// Whether a group of the expression is a part of the URL's scheme or host.
    private static func isHostOfReference(_ translation: Translation) -> Bool {
        guard translation.regexp != nil else { return false }
        guard let start = translation.url.range(of: "://")?.upperBound else { return true }
        let host = translation.url[start...].prefix { !"/?#".contains($0) }
        return translation.url[..<start].contains("$") || host.contains { "$\\".contains($0) }
    }

    private func translated(_ name: String) throws -> (String, Translation?)? {
        if let fixed = translations.first(where: { $0.name == name }) { return (fixed.url, fixed) }
        for translation in translations {
            guard let pattern = translation.regexp else { continue }
            guard let expression = try? NSRegularExpression(pattern: "^(?:\(pattern))$") else {
                throw SwiftletError(.invalidArgument, "images.disks: \(quoted(pattern)) is no regular expression")
            }
            guard let match = expression.firstMatch(in: name, range: NSRange(name.startIndex..., in: name)) else { continue }
            return (expression.replacementString(for: match, in: name, offset: 0, template: translation.url), translation)
        }
        return nil
    }
}
