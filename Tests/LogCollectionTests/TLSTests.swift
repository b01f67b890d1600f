import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import Support
import Testing

@testable import LogCollection

@Suite(.timeLimit(.minutes(1))) struct TLSTests {
    /// Answers each request that ends with the end of a JSON object.
    private final class Answering: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard unwrapInboundIn(data).readableBytesView.last == UInt8(ascii: "}") else { return }
            let answer = ByteBuffer(string: "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
        }
    }

    private let directory = FileManager.default.temporaryDirectory.appending(path: "collection-\(UUID())")

    /// - Returns: the paths of the certificate and its key.
    private func certificate(_ name: String) throws -> (String, String) {
        let (certificate, key) = (directory.appending(path: "\(name).pem").path, directory.appending(path: "\(name).key").path)
        try TestCertificate.make(name, "DNS:localhost", certificate: certificate, key: key)
        return (certificate, key)
    }

    @Test func linesGoToAReceiverWhoseCertificateIsOfTheConfiguredAuthoritiesAlone() async throws {
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let (own, key) = try certificate("own")
        let (other, _) = try certificate("other")
        let tls = try NIOSSLContext(
            configuration: .makeServerConfiguration(
                certificateChain: try NIOSSLCertificate.fromPEMFile(own).map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))))
        let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers(NIOSSLServerHandler(context: tls), Answering())
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let endpoint = "https://localhost:\(server.localAddress?.port ?? 0)"
        for (authorities, isTrusted) in [(own, true), (other, false), (nil, false), (directory.path + "/none", false)] {
            let collectors = LogCollectors(logger: RecordedLog().logger)
            collectors.configure(CollectionConfiguration(otlp: OTLPConfiguration(endpoint: endpoint, authorities: authorities)))
            let open = collectors.collect("c", names)
            open.take(lines(["one"]))
            if isTrusted {
                try await eventually("it is taken") { collectors.states.first?.sentLines == 1 }
            } else {
                try await eventually("it is not taken") { collectors.states.first?.failure != nil }
                #expect(collectors.states.first?.sentLines == 0)
            }
            await collectors.stop(within: .milliseconds(100))
        }
        // A connection that was broken off while it was taken may have closed it.
        try? await server.close()
    }
}
