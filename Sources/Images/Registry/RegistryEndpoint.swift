import Foundation

/// A server that may have an image's repository: the registry itself or a mirror of it.
struct RegistryEndpoint: Sendable, Equatable {
    /// `https://host:port`, without a slash at the end.
    let origin: String
    /// The host as references and messages name it.
    let host: String
    let isMirror: Bool

    /// Where to look for an image of `host`, in order.
    static func all(for host: String, _ registries: [RegistryConfiguration]) -> [RegistryEndpoint] {
        let mirrors = registries.first { $0.host == host }?.mirrors ?? []
        return mirrors.map { endpoint($0, registries, isMirror: true) } + [endpoint(host, registries, isMirror: false)]
    }

    private static func endpoint(_ host: String, _ registries: [RegistryConfiguration], isMirror: Bool) -> RegistryEndpoint {
        let isPlain = registries.first { $0.host == host }?.plainHTTP ?? isLoopback(host)
        let server = host == ImageReference.defaultHost ? "registry-1.docker.io" : host
        return RegistryEndpoint(origin: "\(isPlain ? "http" : "https")://\(server)", host: host, isMirror: isMirror)
    }

    /// localhost, 127.0.0.0/8 and [::1], with any port: Docker speaks plain http to them without being configured so.
    static func isLoopback(_ host: String) -> Bool {
        let name = ImageReference.splitPort(host).host
        if name == "localhost" || name == "[::1]" { return true }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}

extension RegistryAuth {
    /// Whether these credentials may be shown to the registry `host`.
    func isMeant(for host: String) -> Bool {
        guard !serverAddress.isEmpty else { return true }
        var address = serverAddress[...]
        if let scheme = address.range(of: "://") { address = address[scheme.upperBound...] }
        address = address.prefix { $0 != "/" }
        let dockerHub: Set<Substring> = ["docker.io", "index.docker.io", "registry-1.docker.io"]
        return address == host[...] || dockerHub.contains(address) && dockerHub.contains(host[...])
    }

    /// The value of an `Authorization: Basic` header, or nil without a user.
    var basic: String? {
        if !auth.isEmpty { return "Basic \(auth)" }
        guard !username.isEmpty else { return nil }
        return "Basic \(Data("\(username):\(password)".utf8).base64EncodedString())"
    }
}
