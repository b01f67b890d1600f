import Errors
import Images
import Machines

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
        result.group = try MachineUser.shared().gid
        result.maxConversions = try images.checked(.maxConversions, images.maxConversions, in: 1...Images.mostConversions)
        result.progressTimeout = try images.checkedProgressTimeout()
        let perMinute = try images.checked(.minThroughput, images.minThroughput, in: 0...Images.mostThroughput)
        result.leastThroughput = LeastThroughput(kibPerMinute: perMinute)
        return result
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
