import Errors
import Foundation
import Linux
import Synchronization
import Testing

@testable import Images

/// Where a registry may send this node.
@Suite(.timeLimit(.minutes(1))) struct RegistryDestinationsTests {
    private func destinations(
        _ origin: String = "https://registry.example", allowed: [String] = [], isConfigured: Bool = true,
        addresses: [String] = ["203.0.113.9"]
    ) -> RegistryDestinations {
        let host = String(origin.split(separator: "/")[1])
        return RegistryDestinations(
            endpoint: RegistryEndpoint(origin: origin, host: host, isMirror: false), allowed: allowed, isConfigured: isConfigured
        ) { host in IPAddress(host).map { [$0] } ?? addresses.compactMap { IPAddress($0) } }
    }

    private func refusal(
        _ destinations: RegistryDestinations, _ target: String, from source: String = "https://registry.example/v2/"
    ) async throws -> SwiftletError? {
        let (target, source) = (try #require(URL(string: target)), try #require(URL(string: source)))
        do {
            try await destinations.check(target, from: source, "redirect", "layer x")
            return nil
        } catch let error as SwiftletError {
            return error
        }
    }

    @Test(arguments: [
        "http://storage.example/x", "ftp://storage.example/x", "file:///etc/passwd", "https://user:pass@storage.example/x",
        "https://169.254.169.254/latest/meta-data", "https://[fe80::1]/x", "https://[::ffff:169.254.169.254]/x",
        "https://[64:ff9b::a9fe:a9fe]/x", "https://[fd00:ec2::254]/x", "https://100.100.100.200/x", "https://127.0.0.1:10250/x",
        "https://[::1]:10250/x", "https://0.0.0.0/x", "https://[::]/x", "https://224.0.0.1/x", "https://stor%61ge.example/x",
        "https://storage.example%00.registry.example/x",
    ])
    func aTargetIsRefusedByItsOrigin(_ target: String) async throws {
        let error = try #require(try await refusal(destinations(), target + "?signature=secret"))
        #expect(error.code == .permissionDenied && error.message.contains("registries.allowed_redirects"))
        #expect(!error.message.contains("secret") && !error.message.contains("pass@"), "no query, no credentials: \(error.message)")
    }

    @Test(arguments: ["169.254.169.254", "127.0.0.1", "::1"]) func aNameIsJudgedByAllItsAddresses(_ address: String) async throws {
        let error = try await refusal(destinations(addresses: ["203.0.113.9", address]), "https://storage.example/x")
        #expect(error?.code == .permissionDenied && error?.message.contains(address) == true, "\(error?.message ?? "none")")
    }

    @Test func httpsAndTheAdministratorsOriginsAreFree() async throws {
        #expect(try await refusal(destinations(), "https://storage.example:8443/x") == nil)
        #expect(try await refusal(destinations(addresses: ["10.0.0.7"]), "https://storage.internal/x") == nil)
        let rules = destinations(allowed: ["http://storage.internal:9000", "https://127.0.0.1"])
        #expect(try await refusal(rules, "http://storage.internal:9000/bucket/x") == nil)
        #expect(try await refusal(rules, "https://127.0.0.1:443/x") == nil)
        #expect(try await refusal(rules, "http://storage.internal:9001/x") != nil)
    }

    /// As a registry that is reached by http is.
    @Test func plainHTTPStaysPlainAndNothingGoesBackToIt() async throws {
        let plain = destinations("http://registry.local:5000")
        #expect(try await refusal(plain, "http://storage.local/x", from: "http://registry.local:5000/v2/") == nil)
        #expect(try await refusal(plain, "https://storage.local/x", from: "http://registry.local:5000/v2/") == nil)
        #expect(try await refusal(plain, "http://storage.local/x", from: "https://storage.local/x") != nil)
        #expect(try await refusal(plain, "http://127.0.0.1:10255/x", from: "http://registry.local:5000/v2/") != nil)
        #expect(
            try await refusal(destinations("http://127.0.0.1:5000"), "http://127.0.0.1:6000/x", from: "http://127.0.0.1:5000/v2/") == nil)
    }

    @Test func aRegistryOfNobodysChoiceIsNoMetadataServer() async throws {
        let error = await #expect(throws: SwiftletError.self) {
            try await destinations("https://169.254.169.254", isConfigured: false).checkRegistry("manifest x")
        }
        #expect(error?.code == .permissionDenied)
        try await destinations("https://169.254.169.254").checkRegistry("manifest x")
        try await destinations("http://localhost:5000", isConfigured: false, addresses: ["127.0.0.1"]).checkRegistry("manifest x")
    }

    /// By the name that is connected to, not by one that it stands for.
    @Test func anInternationalNameIsJudgedAsItIsWritten() async throws {
        let asked = Mutex<[String]>([])
        let name = "xn--bcher-kva.example"
        let rules = RegistryDestinations(
            endpoint: RegistryEndpoint(origin: "https://\(name)", host: name, isMirror: false), allowed: [], isConfigured: false
        ) { host in
            asked.withLock { $0.append(host) }
            return []
        }
        try await rules.checkRegistry("manifest x")
        let target = try #require(URL(string: "https://xn--mnchen-3ya.example/x"))
        try await rules.check(target, "redirect", "layer x")
        #expect(asked.withLock { $0 } == [name, "xn--mnchen-3ya.example"])
    }

    @Test func aMirrorIsTheAdministratorsChoice() async throws {
        func rules(isMirror: Bool, _ registries: [RegistryConfiguration] = []) -> RegistryDestinations {
            let endpoint = RegistryEndpoint(origin: "https://169.254.7.7", host: "169.254.7.7", isMirror: isMirror)
            return RegistryDestinations(endpoint: endpoint, registries) { IPAddress($0).map { [$0] } ?? [] }
        }
        try await rules(isMirror: true).checkRegistry("manifest x")
        try await rules(isMirror: false, [RegistryConfiguration(host: "169.254.7.7")]).checkRegistry("manifest x")
        await #expect(throws: SwiftletError.self) { try await rules(isMirror: false).checkRegistry("manifest x") }
        let allowed = RegistryConfiguration(host: "169.254.7.7", allowedRedirects: ["http://10.0.0.1:9000"])
        #expect(try await refusal(rules(isMirror: true, [allowed]), "http://10.0.0.1:9000/x") == nil)
    }

    /// As a token server is named.
    @Test func anAllowedOriginNeedsNoEncryption() async throws {
        let rules = destinations(allowed: ["http://tokens.internal:8080"])
        try await rules.check(try #require(URL(string: "http://tokens.internal:8080/token")), "token server", "manifest x")
        await #expect(throws: SwiftletError.self) {
            try await rules.check(try #require(URL(string: "http://tokens.internal/token")), "token server", "manifest x")
        }
    }

    @Test func originsAreComparedInOneForm() {
        for good in ["https://a.example", "http://a.example:9000", "https://[2001:db8::1]:8443"] {
            #expect(RegistryConfiguration.isOrigin(good), "\(good)")
        }
        for bad in ["a.example", "https://A.example", "https://a.example/", "https://a.example:443", "ftp://a.example", "", "https://"] {
            #expect(!RegistryConfiguration.isOrigin(bad), "\(bad)")
        }
    }

    @Test func theNodesResolverKnowsNumbersInEveryForm() throws {
        #expect(try RegistryDestinations.lookUp("0xa9fea9fe").map(\.description) == ["169.254.169.254"])
        #expect(try RegistryDestinations.lookUp("::1").map(\.description) == ["::1"])
        #expect(throws: RegistryFailure.self) { try RegistryDestinations.lookUp("no such host") }
    }
}
