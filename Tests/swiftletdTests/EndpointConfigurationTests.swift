import Errors
import Testing

@testable import swiftletd

@Suite struct EndpointConfigurationTests {
    @Test func aTCPEndpointIsServedOnlyWhereItIsAllowed() throws {
        var configuration = Configuration()
        _ = try configuration.checkedEndpoint()
        configuration.endpoint = "tcp://127.0.0.1:1234"
        let error = #expect(throws: SwiftletError.self) { try configuration.checkedEndpoint() }
        #expect(error?.code == .invalidArgument && error?.message.contains("allow_tcp_endpoint") == true)
        configuration.allowsTCPEndpoint = true
        #expect(try "\(configuration.checkedEndpoint())" == "tcp://127.0.0.1:1234")
    }

    @Test(arguments: ["http://a.example/path", "a.example", "https://A.example"]) func aBadOriginIsRefusedByItsKey(_ origin: String) {
        var configuration = Configuration()
        configuration.registries = [.init(host: "registry.example", allowedRedirects: [origin])]
        let error = #expect(throws: SwiftletError.self) { try configuration.imageStore() }
        #expect(
            error?.message.contains("registries.allowed_redirects \"\(origin)\" of registry.example") == true, "\(error?.message ?? "")")
    }
}
