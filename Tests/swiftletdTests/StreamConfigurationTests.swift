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
}
