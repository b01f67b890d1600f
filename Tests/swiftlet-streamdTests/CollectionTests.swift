import Errors
import LogCollection
import StreamControl
import Testing

@testable import swiftlet_streamd

@Suite struct CollectionTests {
    @Test func aRequestSaysWhereLinesGo() throws {
        #expect(try CollectionConfiguration(StreamConfigureRequest().collection) == CollectionConfiguration())
        let request = StreamCollection.with {
            $0.socket = "/s"
            ($0.otlpEndpoint, $0.otlpAuthorities, $0.otlpTimeout, $0.otlpGzip) = ("https://host", "/ca", 7, true)
            $0.queueBytes = 3 << 20
        }
        let otlp = OTLPConfiguration(endpoint: "https://host", authorities: "/ca", timeout: .milliseconds(7), compresses: true)
        #expect(try CollectionConfiguration(request) == CollectionConfiguration(socket: "/s", otlp: otlp, queueBytes: 3 << 20))
        #expect(throws: SwiftletError.self) { try CollectionConfiguration(.with { $0.socket = "s" }) }
        #expect(throws: SwiftletError.self) { try CollectionConfiguration(.with { $0.queueBytes = .max }) }
    }
}
