import Errors
import Foundation
import Runtime
import Testing

@testable import swiftletd

@Suite struct StreamConfigurationTests {
    /// The configuration in a file with this text.
    private func load(_ text: String) throws -> Configuration {
        let path = NSTemporaryDirectory() + "swiftletd-\(UUID().uuidString).toml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return try Configuration.load(path: path)
    }

    @Test func everyKeyReachesTheStreamDaemon() throws {
        let sessions = try load(
            """
            [stream]
            address = "192.0.2.1:10351"
            tls_certificate = "/c.pem"
            tls_key = "/k.pem"
            sessions_per_container = 1
            sessions_per_pod = 2
            sessions = 3
            creation_timeout = "500ms"
            idle_timeout = "1h30m"
            """
        ).streamDaemon().sessions
        #expect((sessions.address, sessions.certificate, sessions.key) == ("192.0.2.1:10351", "/c.pem", "/k.pem"))
        #expect((sessions.containerSessions, sessions.podSessions, sessions.nodeSessions) == (1, 2, 3))
        #expect((sessions.streamCreationTimeout, sessions.idleTimeout) == (500, 5_400_000))
        let defaults = try Configuration().streamDaemon().sessions
        #expect((defaults.address, defaults.certificate, defaults.nodeSessions) == ("127.0.0.1:10351", "", 1000))
        #expect((defaults.streamCreationTimeout, defaults.idleTimeout) == (30_000, 14_400_000))
    }

    @Test(arguments: [
        ("address", "\"0.0.0.0:80\""), ("address", "\"192.0.2.1:80\""), ("tls_key", "\"/k.pem\""), ("sessions", "0"),
        ("sessions_per_pod", "3001"), ("sessions_per_container", "-1"), ("idle_timeout", "\"0s\""), ("creation_timeout", "\"soon\""),
    ])
    func aBadValueIsRefusedByItsKey(_ key: String, _ value: String) throws {
        let configuration = try load("[stream]\n\(key) = \(value)\n")
        let error = #expect(throws: SwiftletError.self) { try configuration.streamDaemon() }
        #expect(error?.code == .invalidArgument && error?.description.contains("stream.\(key)") == true, "\(error?.description ?? "")")
    }

    @Test func logsAreRotatedWhereTheConfigurationSaysSo() throws {
        #expect(try Configuration().logRotation() == nil)
        #expect(try load("[logs]\nmax_size = 65536\n").logRotation() == LogRotation(maxSize: 65536, maxFiles: 5))
        let rotation = try load("[logs]\nmax_size = 10000000\nmax_files = 2\n").logRotation()
        #expect(rotation == LogRotation(maxSize: 10_000_000, maxFiles: 2))
        for (key, value) in [("max_size", "65535"), ("max_size", "1"), ("max_size", "-1"), ("max_files", "1"), ("max_files", "1001")] {
            let configuration = try load("[logs]\n\(key) = \(value)\n")
            let error = #expect(throws: SwiftletError.self) { try configuration.logRotation() }
            #expect(error?.code == .invalidArgument && error?.description.contains("logs.\(key) = \(value)") == true)
        }
    }

    @Test func logsHaveTheConfiguredBudget() throws {
        #expect(try Configuration().logBudget().isUnlimited)
        let budget = try load("[logs]\nbytes_per_second = 1000\noperations_per_second = 10\nover_budget = \"drop\"\n").logBudget()
        #expect(budget == LogBudget(bytesPerSecond: 1000, operationsPerSecond: 10, excess: .drop))
        for (key, value) in [("bytes_per_second", "-1"), ("operations_per_second", "-1"), ("over_budget", "\"fast\"")] {
            let configuration = try load("[logs]\n\(key) = \(value)\n")
            let error = #expect(throws: SwiftletError.self) { try configuration.logBudget() }
            #expect(error?.code == .invalidArgument && error?.description.contains("logs.\(key)") == true)
        }
    }

    @Test func everyKeyOfTheCollectionReachesTheStreamDaemon() throws {
        #expect(try Configuration().streamDaemon().sessions.hasCollection == false)
        #expect(try load("[logs.collection]\nqueue_bytes = 2000000\n").streamDaemon().sessions.hasCollection == false)
        let socket = try load("[logs.collection]\nsocket = \"/run/vector.sock\"\n").streamDaemon().sessions.collection
        #expect((socket.socket, socket.otlpEndpoint, socket.queueBytes) == ("/run/vector.sock", "", 8 << 20))
        let otlp = try load(
            """
            [logs]
            over_budget = "drop"
            [logs.collection]
            otlp_endpoint = "https://otel.example.com:4318/tenant"
            otlp_ca = "/ca.pem"
            otlp_timeout = "500ms"
            otlp_compression = "gzip"
            queue_bytes = 1048576
            """
        ).streamDaemon().sessions.collection
        #expect((otlp.socket, otlp.otlpEndpoint, otlp.otlpAuthorities) == ("", "https://otel.example.com:4318/tenant", "/ca.pem"))
        #expect((otlp.otlpTimeout, otlp.otlpGzip, otlp.queueBytes) == (500, true, 1 << 20))
        #expect(try Configuration().collection() == nil && Configuration().json.contains("\"otlp_compression\":\"none\""))
    }

    @Test(arguments: [
        ("socket", "\"run/vector.sock\""), ("socket", "\"/\(String(repeating: "s", count: 107))\""),
        ("otlp_endpoint", "\"localhost:4318\""),
        ("otlp_endpoint", "\"ftp://localhost\""), ("otlp_endpoint", "\"http://\""), ("otlp_endpoint", "\"http://me:secret@localhost\""),
        ("otlp_endpoint", "\"http://localhost/?a=b\""), ("otlp_endpoint", "\"http://localhost:99999\""), ("otlp_ca", "\"ca.pem\""),
        ("otlp_ca", "\"/ca.pem\""), ("otlp_timeout", "\"soon\""), ("otlp_timeout", "\"0s\""), ("otlp_timeout", "\"2h\""),
        ("otlp_compression", "\"zstd\""), ("queue_bytes", "0"), ("queue_bytes", "-1"), ("queue_bytes", "1000"),
        ("queue_bytes", "2147483648"),
    ])
    func aBadCollectionIsRefusedByItsKey(_ key: String, _ value: String) throws {
        let configuration = try load("[logs.collection]\n\(key) = \(value)\n")
        let error = #expect(throws: SwiftletError.self) { try configuration.streamDaemon() }
        let text = error?.description ?? ""
        #expect(error?.code == .invalidArgument && text.contains("logs.collection.\(key)") && !text.contains("secret"), "\(text)")
    }

    @Test(arguments: ["[logs.collection]\nsockets = \"/s\"\n", "[logs.collections]\nsocket = \"/s\"\n"])
    func anUnknownKeyOfTheCollectionIsRefused(_ text: String) {
        #expect(throws: SwiftletError.self) { try load(text) }
    }
}
