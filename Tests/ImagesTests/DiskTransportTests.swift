import Concurrency
import Errors
import Foundation
import Linux
import NIOCore
import NIOPosix
import NIOSSL
import Support
import Synchronization
import Testing

@testable import Images

/// How servers of disks are spoken to, by servers that insist on it.
@Suite(.timeLimit(.minutes(1))) final class DiskTransportTests {
    private let directory = FileManager.default.temporaryDirectory.appending(path: "transport-\(UUID())")

    init() throws { try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: directory) }

    /// - Returns: the paths of a self-signed certificate for `name` and of its key.
    private func certificate(_ name: String) throws -> (certificate: String, key: String) {
        let (certificate, key) = (directory.appending(path: "\(name).pem").path, directory.appending(path: "\(name).key").path)
        try TestCertificate.make(name, "DNS:\(name)", certificate: certificate, key: key)
        return (certificate, key)
    }

    /// - Parameter clients: whose certificates alone are let in; nil: everybody.
    private func context(_ own: (certificate: String, key: String), clients: String? = nil) throws -> NIOSSLContext {
        var tls = TLSConfiguration.makeServerConfiguration(
            certificateChain: try NIOSSLCertificate.fromPEMFile(own.certificate).map { .certificate($0) },
            privateKey: .privateKey(try NIOSSLPrivateKey(file: own.key, format: .pem)))
        if let clients { (tls.trustRoots, tls.certificateVerification) = (.file(clients), .noHostnameVerification) }
        return try NIOSSLContext(configuration: tls)
    }

    /// What pulling by this transport says; nil: it was taken.
    private func failure(_ url: String, _ transport: DiskSources.Transport) async throws -> String? {
        let sources = DiskSources(translations: [.init(name: "vm", url: url)], transports: ["default": transport])
        let outcome = Mutex<String?>(nil)
        try await withStore({ ($0.disks, $0.attempts) = (sources, 1) }) { store, _ async throws in
            do { _ = try await store.pull("vm") } catch let error as SwiftletError { outcome.withLock { $0 = "\(error)" } }
        }
        return outcome.withLock { $0 }
    }

    private func transport(_ change: (inout DiskSources.Transport) -> Void) -> DiskSources.Transport {
        var transport = DiskSources.Transport(timeout: .seconds(5), maxRedirects: 2)
        change(&transport)
        return transport
    }

    @Test func aServersCertificateIsOfTheTransportsAuthorities() async throws {
        let (own, other) = (try certificate("localhost"), try certificate("other.example"))
        try await FakeRegistry.with(tls: try context(own)) { server async throws in
            server.script { _ in .init(body: DiskImageTests.qcow) }
            let url = "https://localhost:\(server.port)/vm.qcow2"
            #expect(try await failure(url, transport { $0.authorities = own.certificate }) == nil)
            for authorities in [other.certificate, "", directory.path + "/none"] {
                #expect(try await failure(url, transport { $0.authorities = authorities }) != nil, "\(authorities)")
            }
            #expect(try await failure(url, transport { $0.isInsecure = true }) == nil)
        }
    }

    @Test func aServerMayHaveACertificateOfAnotherName() async throws {
        let own = try certificate("disks.example")
        try await FakeRegistry.with(tls: try context(own)) { server async throws in
            server.script { _ in .init(body: DiskImageTests.qcow) }
            let url = "https://localhost:\(server.port)/vm.qcow2"
            // The compiler takes a closure inside `#expect` and one beside it for the same: all of them are beside.
            let plain = transport { $0.authorities = own.certificate }
            let refused = try await failure(url, plain)
            #expect(refused != nil && server.requests.isEmpty)
            let named = transport { ($0.authorities, $0.serverName) = (own.certificate, "disks.example") }
            let answer = try await failure(url, named)
            #expect(answer == nil)
            #expect(server.requests.map { $0.headers["host"] } == ["localhost:\(server.port)"])
            let misnamed = transport { ($0.authorities, $0.serverName) = (own.certificate, "other.example") }
            let mismatch = try await failure(url, misnamed)
            #expect(mismatch != nil)
        }
    }

    /// The name is one that no resolver knows, and a wrong certificate's would be right for an address.
    @Test(arguments: [true, false])
    func aHostOfAReferenceIsCheckedByItsNameAtTheAddressThatWasJudged(isRight: Bool) async throws {
        let (own, other) = (try certificate("disks.invalid"), try certificate("other.invalid"))
        let both = directory.appending(path: "both.pem").path
        try (String(contentsOfFile: own.certificate, encoding: .utf8) + String(contentsOfFile: other.certificate, encoding: .utf8))
            .write(toFile: both, atomically: true, encoding: .utf8)
        let (first, second) = (try context(own), try context(isRight ? other : own))
        try await FakeRegistry.with(tls: second) { storage async throws in
            storage.script { _ in .init(body: Data("disk".utf8)) }
            let location = "https://other.invalid:\(storage.port)/b"
            try await FakeRegistry.with(tls: first) { server async throws in
                server.script { _ in .init(status: .found, headers: [("location", location)]) }
                let trusting = transport { $0.authorities = both }
                let source = DiskSources.Source(
                    url: "https://disks.invalid:\(server.port)/a", transport: trusting, digest: nil, format: nil, isHostOfReference: true)
                var (length, failure): (UInt64?, SwiftletError?) = (nil, nil)
                do { length = try await fetch(source) } catch let error as SwiftletError { failure = error }
                #expect(length == (isRight ? 4 : nil), "\(String(describing: failure))")
                #expect(server.requests.map { $0.headers["host"] } == ["disks.invalid:\(server.port)"])
                #expect(storage.requests.map { $0.headers["host"] } == (isRight ? ["other.invalid:\(storage.port)"] : []))
                // Of the first host too: its certificate is not this name's.
                var wrong = source
                wrong.url = "https://other.invalid:\(server.port)/a"
                let misled = await #expect(throws: SwiftletError.self) { try await fetch(wrong) }
                #expect(misled.map { "\($0)".contains("other.invalid") } == true, "\(String(describing: misled))")
                #expect(server.requests.count == 1)
            }
        }
    }

    /// - Returns: how much came, from loopback, where every name leads.
    private func fetch(_ source: DiskSources.Source) async throws -> UInt64 {
        var configuration = ImageStoreConfiguration(root: directory.path, attempts: 1, retryDelay: .milliseconds(1))
        configuration.disks.reach.networks = [IPPrefix("127.0.0.1/32")].compactMap { $0 }
        let work = BlockingPool("download", threads: 2)
        defer { work.close() }
        let path = directory.appending(path: "blob-\(UUID())").path
        return try await DiskDownload(
            source: source, configuration: configuration, throughput: PullThroughput(.init()), work: work,
            resolve: { _ in [IPAddress("127.0.0.1")].compactMap { $0 } }
        ).run(to: path).length
    }

    /// And is shown to the table's host alone.
    @Test func thisNodesCertificateIsShown() async throws {
        let (own, node, stranger) = (try certificate("localhost"), try certificate("node.example"), try certificate("stranger.example"))
        try await FakeRegistry.with(tls: try context(own, clients: node.certificate)) { server async throws in
            server.script { $0.path == "/vm.qcow2" ? .init(body: DiskImageTests.qcow) : nil }
            let url = "https://localhost:\(server.port)/vm.qcow2"
            func with(_ pair: (certificate: String, key: String)) -> DiskSources.Transport {
                transport { ($0.authorities, $0.certificate, $0.key) = (own.certificate, pair.certificate, pair.key) }
            }
            #expect(try await failure(url, with(node)) == nil)
            #expect(try await failure(url, with(stranger)) != nil)
            #expect(try await failure(url, transport { $0.authorities = own.certificate }) != nil)
            try await FakeRegistry.with(tls: try context(own)) { first async throws in
                first.script { _ in .init(status: .found, headers: [("location", url)]) }
                var sent = with(node)
                sent.maxRedirects = 1
                // To its own origin's sake the second one asks for a certificate that is not for it.
                let answer = try await failure("https://localhost:\(first.port)/vm.qcow2", sent)
                #expect(answer != nil && first.requests.count == 1)
            }
        }
    }

    @Test func theConnectionIsMadeByTheProxy() async throws {
        let own = try certificate("disks.invalid")
        try await FakeRegistry.with(tls: try context(own)) { server async throws in
            server.script { _ in .init(body: DiskImageTests.qcow) }
            let asked = Mutex<[String]>([])
            let proxy = try await Self.proxy(to: Int(server.port) ?? 0) { head in asked.withLock { $0.append(head) } }
            let by = transport {
                ($0.authorities, $0.proxy) = (own.certificate, "http://user:secret@127.0.0.1:\(proxy.localAddress?.port ?? 0)")
            }
            // Known to the proxy alone.
            #expect(try await failure("https://disks.invalid/vm.qcow2", by) == nil)
            try await proxy.close()
            let head = try #require(asked.withLock { $0.first }).lowercased()
            #expect(head.hasPrefix("connect disks.invalid:443 http/1.1\r\n"))
            #expect(head.contains("proxy-authorization: basic \(Data("user:secret".utf8).base64EncodedString().lowercased())"))
            let gone = try await failure("https://disks.invalid/vm.qcow2", by)
            #expect(gone != nil && gone?.contains("secret") == false)
        }
    }

    /// Takes CONNECT for anything and connects with a port of this machine.
    private static func proxy(to port: Int, _ seen: @escaping @Sendable (String) -> Void) async throws -> any Channel {
        try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Tunnel(port: port, seen)) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }
}

/// One side of a tunnel: the first has a head to read, and makes the other.
private final class Tunnel: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let port: Int
    private let seen: @Sendable (String) -> Void
    private var head = ""
    private var peer: (any Channel)?

    init(port: Int, _ seen: @escaping @Sendable (String) -> Void) { (self.port, self.seen) = (port, seen) }

    init(peer: any Channel) { (port, seen, self.peer) = (0, { _ in }, peer) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        if let peer { return peer.writeAndFlush(buffer, promise: nil) }
        head += String(buffer: buffer)
        guard head.hasSuffix("\r\n\r\n") else { return }
        seen(head)
        let (channel, bound) = (context.channel, NIOLoopBound(self, eventLoop: context.eventLoop))
        ClientBootstrap(group: context.eventLoop)
            .channelInitializer { other in
                other.eventLoop.makeCompletedFuture { try other.pipeline.syncOperations.addHandler(Tunnel(peer: channel)) }
            }
            .connect(host: "127.0.0.1", port: port).whenSuccess { other in
                bound.value.peer = other
                channel.writeAndFlush(ByteBuffer(string: "HTTP/1.1 200 OK\r\n\r\n"), promise: nil)
            }
    }

    func channelInactive(context: ChannelHandlerContext) { peer?.close(promise: nil) }
}
