import CoreMetrics
import Errors
import Foundation
import Glibc
import Support
import Testing

@testable import Prometheus

@Suite(.timeLimit(.minutes(3))) struct EndpointTests {
    private let registry: PrometheusRegistry = {
        let registry = PrometheusRegistry()
        Counter(label: "calls_total", factory: registry).increment()
        return registry
    }()

    private func withEndpoint(_ address: MetricsAddress, _ body: (String) async throws -> Void) async throws {
        let endpoint = try await MetricsEndpoint.start(at: address, registry)
        do {
            try await body("\(endpoint.address)")
        } catch {
            await endpoint.stop()
            throw error
        }
        await endpoint.stop()
    }

    private func get(_ path: String, method: String = "GET", from address: String) throws -> HTTPExchange {
        try HTTPExchange("\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n", to: address)
    }

    @Test func metricsAreServedAndNothingElse() async throws {
        try await withEndpoint(.loopback(host: "127.0.0.1", port: 0)) { address in
            for path in ["/metrics", "/metrics?format=text"] {
                let answer = try get(path, from: address)
                #expect(answer.status == 200 && answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
                #expect(answer.body == "# TYPE calls_total counter\ncalls_total 1\n")
                #expect(answer.headers["content-length"] == "\(answer.body.utf8.count)")
            }
            for path in ["/", "/metrics/", "/metric", "/debug/pprof", "/../metrics"] { #expect(try get(path, from: address).status == 404) }
            for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
                let answer = try get("/metrics", method: method, from: address)
                #expect(answer.status == 405 && answer.headers["allow"] == "GET", "\(method)")
            }
        }
    }

    @Test func garbageEndsItsOwnConnection() async throws {
        try await withEndpoint(.loopback(host: "127.0.0.1", port: 0)) { address in
            for garbage in [
                "\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET /metrics HTTP/9.9\r\n\r\n", String(repeating: "x", count: 200_000),
            ] {
                // Closed with or without an answer.
                if let answer = try? HTTPExchange(garbage, to: address) { #expect(answer.status >= 400) }
            }
            let answer = try get("/metrics", from: address)
            #expect(answer.status == 200)
        }
    }

    @Test func aUnixSocketIsForTheGroupAndGoesWithTheEndpoint() async throws {
        let path = "/tmp/swiftlet-metrics-\(UUID().uuidString.prefix(8))"
        for _ in 0..<2 {
            try await withEndpoint(.unix(path: path)) { address in
                let answer = try get("/metrics", from: address)
                #expect(answer.status == 200)
                var status = stat()
                #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o660)
                let taken = await #expect(throws: SwiftletError.self) { try await MetricsEndpoint.start(at: .unix(path: path), registry) }
                #expect(taken?.code == .alreadyExists && taken?.message.contains(path) == true, "\(String(describing: taken))")
            }
            #expect(access(path, F_OK) != 0)
        }
    }

    @Test func aStaleSocketIsReplacedAndAFileIsNot() async throws {
        let path = "/tmp/swiftlet-metrics-\(UUID().uuidString.prefix(8))"
        defer { unlink(path) }
        let stale = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(stale, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        close(stale)
        try #require(bound == 0)
        try await withEndpoint(.unix(path: path)) { address in
            let answer = try get("/metrics", from: address)
            #expect(answer.status == 200)
        }
        try "mine".write(toFile: path, atomically: false, encoding: .utf8)
        await #expect(throws: SwiftletError.self) { try await MetricsEndpoint.start(at: .unix(path: path), registry) }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "mine")
    }

    @Test func onlyLoopbackAddressesAreTaken() throws {
        for host in ["127.0.0.1", "127.1.2.3", "::1"] {
            #expect(try MetricsAddress.loopback(host: host, port: 1) == .tcp(host: host, port: 1))
        }
        for host in [
            "0.0.0.0", "::", "10.0.0.1", "192.168.0.1", "::ffff:127.0.0.1", "fe80::1", "localhost", "example.org", "", "128.0.0.1",
        ] {
            let error = #expect(throws: SwiftletError.self) { try MetricsAddress.loopback(host: host, port: 1) }
            #expect(error?.code == .invalidArgument && error?.message.contains("loopback") == true, "\(host)")
        }
    }
}
