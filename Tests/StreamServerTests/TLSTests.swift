import Errors
import Foundation
import Support
import Testing

@testable import StreamServer

@Suite(.timeLimit(.minutes(3))) struct TLSTests {
    /// The certificate's subject and the answer to a token that is none, by OpenSSL's client.
    private func answer(_ node: StreamNode, _ port: Int) async throws -> String {
        let request = Data("GET /exec/x HTTP/1.1\r\nHost: x\r\n\r\n".utf8)
        let result = try await node.run(
            ["/usr/bin/openssl", "s_client", "-connect", "127.0.0.1:\(port)", "-ign_eof"], input: request)
        return String(decoding: result.stdout, as: UTF8.self)
    }

    @Test func aRenewedCertificateIsServedAndABrokenOneIsNot() async throws {
        let node = try await StreamNode()
        let files = ServerConfiguration.TLSFiles(
            certificate: node.directory.appending(path: "cert.pem").path, key: node.directory.appending(path: "key.pem").path)
        await #expect(throws: SwiftletError.self) {
            try await StreamServer.start(ServerConfiguration(tls: files), node.backend, logger: node.log.logger)
        }
        try TestCertificate.make("first", certificate: files.certificate, key: files.key)
        let server = try await StreamServer.start(ServerConfiguration(tls: files), node.backend, logger: node.log.logger)
        #expect(try server.url(for: .portForward(PortForwardRequest(sandboxID: "s", ports: []))).hasPrefix("https://127.0.0.1:"))
        let first = try await answer(node, server.port)
        #expect(first.contains("CN = first") && first.contains("404 Not Found"), "\(first)")
        try TestCertificate.make("second", certificate: files.certificate, key: files.key)
        #expect(try await answer(node, server.port).contains("CN = second"))
        try Data("no key".utf8).write(to: URL(fileURLWithPath: files.key))
        #expect(try await answer(node, server.port).contains("CN = second"))
        #expect(node.log.lines.contains { $0.contains("go on with the former certificate") }, "\(node.log.lines)")
        await server.stop()
        await node.stop()
    }
}
