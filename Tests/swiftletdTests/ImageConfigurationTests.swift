import Errors
import Foundation
import Images
import Testing

@testable import swiftletd

@Suite struct ImageConfigurationTests {
    /// The configuration in a file with this `[images]`.
    private func load(_ images: String) throws -> Configuration {
        let path = NSTemporaryDirectory() + "swiftletd-\(UUID().uuidString).toml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "[images]\n\(images)\n".write(toFile: path, atomically: true, encoding: .utf8)
        return try Configuration.load(path: path)
    }

    @Test func theDefaultsAreThoseOfTheStore() throws {
        let (made, store) = (try Configuration().imageStore(), ImageStoreConfiguration(root: "/x"))
        #expect(made.root == "/var/lib/swiftlet/images")
        #expect(made.downloads.perPull == store.downloads.perPull && made.downloads.perRegistry == store.downloads.perRegistry)
        #expect(made.downloads.total == store.downloads.total && made.maxConversions == store.maxConversions)
        #expect(made.progressTimeout == store.progressTimeout)
        #expect(made.leastThroughput.bytes == store.leastThroughput.bytes && made.leastThroughput.window == store.leastThroughput.window)
    }

    @Test func everyKeyReachesTheStore() throws {
        let made = try load(
            """
            max_concurrent_downloads = 4
            max_concurrent_downloads_per_registry = 5
            max_concurrent_downloads_total = 7
            max_concurrent_conversions = 2
            image_pull_progress_timeout = "1m30s"
            image_pull_min_kib_per_minute = 6
            """
        ).imageStore()
        #expect(made.downloads.perPull == 4 && made.downloads.perRegistry == 5 && made.downloads.total == 7 && made.maxConversions == 2)
        #expect(made.progressTimeout == .seconds(90) && made.leastThroughput.bytes == 30 << 10)
        #expect(try load("image_pull_min_kib_per_minute = 0").imageStore().leastThroughput.bytes == 0)
    }

    @Test func everyKeyOfDisksReachesTheStore() throws {
        let disks = try load(
            """
            [images.disks]
            prefix = "virtlet.cloud"
            scheme = "http"
            allow_private = true
            allowed_networks = ["127.0.0.0/8", "fd00::/8"]
            [[images.disks.translations]]
            name = "cirros"
            url = "https://example.com/cirros.img"
            transport = "internal"
            sha256 = "\(String(repeating: "a", count: 64))"
            format = "qcow2"
            [[images.disks.translations]]
            regexp = "debian-(\\\\d+)"
            url = "https://example.com/$1.qcow2"
            [images.disks.transports.internal]
            timeout = "1m"
            max_redirects = 2
            proxy = "http://proxy:3128"
            tls_ca = "/ca.pem"
            tls_certificate = "/node.pem"
            tls_key = "/node.key"
            [images.disks.transports.lab]
            tls_server_name = "disks.example"
            tls_insecure = true
            """
        ).imageStore().disks
        #expect(disks.reach.allowsPrivate && disks.reach.networks.map(\.description) == ["127.0.0.0/8", "fd00::/8"])
        #expect(disks.transports["lab"]?.serverName == "disks.example" && disks.transports["lab"]?.isInsecure == true)
        #expect(disks.prefix == "virtlet.cloud" && disks.scheme == "http" && disks.translations.count == 2)
        #expect(disks.translations[0].format == .qcow2 && disks.translations[1].regexp == "debian-(\\d+)")
        let transport = try #require(disks.transports["internal"])
        #expect(transport.timeout == .seconds(60) && transport.maxRedirects == 2 && transport.proxy == "http://proxy:3128")
        #expect(transport.authorities == "/ca.pem" && transport.certificate == "/node.pem" && transport.key == "/node.key")
    }

    @Test(arguments: [
        ("allowed_networks = [\"10.0.0.0/33\"]", "no network such as 10.0.0.0/8"),
        ("[images.disks.transports.a]\nproxy = \"proxy:3128\"", "is not http://HOST:PORT"),
        ("[images.disks.transports.a]\nproxy = \"http://proxy:3128\"\ntls_server_name = \"b\"", "together with a proxy"),
    ]) func aBadKeyOfDisksIsNamed(_ lines: String, _ reason: String) throws {
        let error = #expect(throws: SwiftletError.self) { try load("[images.disks]\n\(lines)").imageStore() }
        #expect(error?.message.hasPrefix("images.disks.") == true && error?.message.contains(reason) == true)
    }

    @Test(arguments: [
        ("name = \"a\"\nregexp = \"b\"", "either a name or a regexp"), ("", "either a name or a regexp"),
        ("regexp = \"(\"", "no regular expression"), ("name = \"a\"\ntransport = \"x\"", "is none of transports"),
        ("name = \"a\"\nsha256 = \"12\"", "64 hexadecimal digits"), ("name = \"a\"\nformat = \"vmdk\"", "neither raw nor qcow2"),
    ]) func aBadTranslationIsRefusedByItsKey(_ lines: String, _ reason: String) throws {
        let configuration = try load("[[images.disks.translations]]\nurl = \"https://example.com\"\n\(lines)")
        let error = #expect(throws: SwiftletError.self) { try configuration.imageStore() }
        #expect(error?.message.hasPrefix("images.disks.translations") == true && error?.message.contains(reason) == true)
    }

    @Test(arguments: [
        ("max_concurrent_downloads", "0"), ("max_concurrent_downloads", "257"), ("max_concurrent_downloads_per_registry", "-1"),
        ("max_concurrent_downloads_total", "0"), ("max_concurrent_conversions", "65"), ("image_pull_min_kib_per_minute", "-1"),
        ("image_pull_min_kib_per_minute", "1048577"), ("image_pull_progress_timeout", "\"\""),
        ("image_pull_progress_timeout", "\"5\""), ("image_pull_progress_timeout", "\"-5m\""),
        ("image_pull_progress_timeout", "\"five minutes\""), ("image_pull_progress_timeout", "\"0s\""),
        ("image_pull_progress_timeout", "\"900ms\""), ("image_pull_progress_timeout", "\"24h1s\""),
        ("image_pull_progress_timeout", "\"999999999999999h\""),
    ])
    func aBadValueIsRefusedByItsKey(_ key: String, _ value: String) throws {
        let configuration = try load("\(key) = \(value)")
        let error = #expect(throws: SwiftletError.self) { try configuration.imageStore() }
        #expect(error?.code == .invalidArgument && error?.message.hasPrefix("images.\(key) \(value)") == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [
        ("max_concurrent_downloads", "\"3\""), ("image_pull_progress_timeout", "300"), ("max_concurrent_download", "3"),
    ])
    func aValueOfAnotherTypeAndAnUnknownKeyAreRefusedByTheirKey(_ key: String, _ value: String) {
        let error = #expect(throws: SwiftletError.self) { try load("\(key) = \(value)") }
        #expect(error?.code == .invalidArgument && error?.description.contains(key) == true, "\(error?.description ?? "")")
    }

    @Test func durationsAreReadAsGoWritesThem() {
        let read = ["5m0s": 300.0, "1h30m": 5400, "1.5s": 1.5, "500ms": 0.5, "0s": 0, "2h45m30.5s": 9930.5]
        for (text, seconds) in read { #expect(DurationText.seconds(text) == seconds, "\(text)") }
        for text in ["", "5", "m", "5 m", "5m ", "-5m", "5d", "5m3", "1e3s", "٣s", ".5s"] {
            #expect(DurationText.seconds(text) == nil, "\(text)")
        }
    }
}
