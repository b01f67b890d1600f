import Errors
import Foundation
import Images
import Linux
import Machines
import Runtime

extension Configuration {
    /// - Throws: `.invalidArgument` naming the key whose value is not allowed.
    func imageStore() throws -> ImageStoreConfiguration {
        var result = ImageStoreConfiguration(
            root: root + "/images",
            registries: try registries.map { registry in
                if let bad = registry.allowedRedirects.first(where: { !RegistryConfiguration.isOrigin($0) }) {
                    throw SwiftletError(
                        .invalidArgument,
                        "registries.allowed_redirects \(quoted(bad)) of \(registry.host) is no origin such as https://storage.example.com:9000"
                    )
                }
                return RegistryConfiguration(
                    host: registry.host, mirrors: registry.mirrors, plainHTTP: registry.plainHTTP,
                    allowedRedirects: registry.allowedRedirects)
            })
        result.downloads = DownloadLimits(
            perPull: try images.checked(.maxDownloads, images.maxDownloads, in: 1...Images.mostDownloads),
            perRegistry: try images.checked(.maxDownloadsPerRegistry, images.maxDownloadsPerRegistry, in: 1...Images.mostDownloads),
            total: try images.checked(.maxDownloadsTotal, images.maxDownloadsTotal, in: 1...Images.mostDownloads))
        result.diskInspector = images.diskInspector.isEmpty ? Self.besideDaemon("swiftlet-diskinfo") : images.diskInspector
        result.disks = try images.disks.sources()
        result.group = try MachineUser.shared().gid
        result.maxConversions = try images.checked(.maxConversions, images.maxConversions, in: 1...Images.mostConversions)
        result.progressTimeout = try images.checkedProgressTimeout()
        let perMinute = try images.checked(.minThroughput, images.minThroughput, in: 0...Images.mostThroughput)
        result.leastThroughput = LeastThroughput(kibPerMinute: perMinute)
        return result
    }
}

extension Configuration.Disks {
    /// - Throws: `.invalidArgument` naming the key whose value is not allowed.
    fileprivate func sources() throws -> DiskSources {
        func refused(_ key: String, _ value: String, _ reason: String) -> SwiftletError {
            SwiftletError(.invalidArgument, "images.disks.\(key) \(quoted(value)) \(reason)")
        }
        guard scheme == "https" || scheme == "http" else { throw refused("scheme", scheme, "is neither https nor http") }
        let transports = try transports.mapValues { transport in
            guard let seconds = DurationText.seconds(transport.timeout), (1...86400).contains(seconds) else {
                throw refused("transports.timeout", transport.timeout, "is no duration from 1s to 24h")
            }
            guard (0...50).contains(transport.maxRedirects) else {
                throw refused("transports.max_redirects", "\(transport.maxRedirects)", "is not from 0 to 50")
            }
            let proxy = URLComponents(string: transport.proxy)
            guard transport.proxy.isEmpty || proxy?.scheme == "http" && proxy?.host?.isEmpty == false && proxy?.port != nil else {
                // Without the text: it may hold a password.
                throw SwiftletError(.invalidArgument, "images.disks.transports.proxy is not http://HOST:PORT")
            }
            guard transport.proxy.isEmpty || transport.serverName.isEmpty else {
                throw refused("transports.tls_server_name", transport.serverName, "cannot be given together with a proxy")
            }
            guard transport.certificate.isEmpty == transport.key.isEmpty else {
                throw refused("transports.tls_key", transport.key, "and tls_certificate go together")
            }
            return DiskSources.Transport(
                timeout: .seconds(seconds), maxRedirects: transport.maxRedirects, proxy: transport.proxy,
                authorities: transport.authorities, certificate: transport.certificate, key: transport.key,
                serverName: transport.serverName, isInsecure: transport.insecure)
        }
        let translations = try translations.map { entry in
            guard entry.name.isEmpty != entry.regexp.isEmpty else {
                throw refused("translations", entry.url, "has either a name or a regexp")
            }
            guard entry.regexp.isEmpty || (try? NSRegularExpression(pattern: entry.regexp)) != nil else {
                throw refused("translations.regexp", entry.regexp, "is no regular expression")
            }
            guard entry.transport.isEmpty || transports[entry.transport] != nil else {
                throw refused("translations.transport", entry.transport, "is none of transports")
            }
            guard entry.sha256.isEmpty || (try? Digest("sha256:\(entry.sha256)")) != nil else {
                throw refused("translations.sha256", entry.sha256, "is not 64 hexadecimal digits in lower case")
            }
            let format = DiskImage.Format(rawValue: entry.format)
            guard format != nil || entry.format.isEmpty else {
                throw refused("translations.format", entry.format, "is neither raw nor qcow2")
            }
            return DiskSources.Translation(
                name: entry.name.isEmpty ? nil : entry.name, regexp: entry.regexp.isEmpty ? nil : entry.regexp, url: entry.url,
                transport: entry.transport, sha256: entry.sha256, format: format)
        }
        let networks = try allowedNetworks.map { text in
            guard let network = IPPrefix(text) else { throw refused("allowed_networks", text, "is no network such as 10.0.0.0/8") }
            return network
        }
        return DiskSources(
            prefix: prefix, scheme: scheme, translations: translations, transports: transports,
            reach: DiskSources.Reach(allowsPrivate: allowsPrivate, networks: networks))
    }
}

extension Configuration.Images {
    /// Each download has a connection and may have a thread that writes.
    fileprivate static let mostDownloads = 256
    fileprivate static let mostConversions = 64
    /// KiB: 1 GiB a minute, at which no pull that shares a line would arrive.
    fileprivate static let mostThroughput = 1 << 20
    /// Seconds: a day.
    private static let longestTimeout = 86400.0

    fileprivate func checked(_ key: CodingKeys, _ value: Int, in range: ClosedRange<Int>) throws -> Int {
        guard range.contains(value) else {
            throw SwiftletError(
                .invalidArgument, "images.\(key.rawValue) \(value) is not from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    fileprivate func checkedProgressTimeout() throws -> Duration {
        let key = "images.\(CodingKeys.progressTimeout.rawValue)"
        guard let seconds = DurationText.seconds(progressTimeout) else {
            throw SwiftletError(.invalidArgument, "\(key) \"\(progressTimeout.prefix(80))\" is no duration such as 90s, 5m or 1h30m")
        }
        guard seconds >= 1, seconds <= Self.longestTimeout else {
            throw SwiftletError(.invalidArgument, "\(key) \"\(progressTimeout.prefix(80))\" is not from 1s to 24h")
        }
        return .seconds(seconds)
    }
}
