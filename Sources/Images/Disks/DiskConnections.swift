import AsyncHTTPClient
import Errors
import Foundation
import Linux
import NIOCore
import NIOPosix
import NIOSSL

/// The connections of one download: to the addresses that its destinations were judged by, and by the transport's TLS.
actor DiskConnections {
    private let source: DiskSources.Source
    private let connectTimeout: Duration
    private var clients: [Target: HTTPClient] = [:]

    private struct Target: Hashable {
        /// Of the first URL: with this node's certificate, and by the name that the transport gives it.
        var isFirst: Bool
        /// Whose address is not asked for: as AsyncHTTPClient has it, which looks for it by each byte.
        var host: String
        var address: String
    }

    /// More of a name's addresses are not tried.
    private static let mostAddresses = 8

    init(_ source: DiskSources.Source, connectTimeout: Duration) {
        (self.source, self.connectTimeout) = (source, connectTimeout)
    }

    /// - Parameter addresses: one of them is connected to; none: what the name says.
    func execute(_ request: HTTPClientRequest, at addresses: [IPAddress]) async throws -> HTTPClientResponse {
        guard let target = URL(string: request.url), let plain = RegistryDestinations.host(of: target),
            var url = URLComponents(string: request.url)
        else { throw SwiftletError(.invalidArgument, "it is no URL") }
        let isFirst = RegistryDestinations.origin(of: target) == source.origin
        var (request, name) = (request, plain)
        if isFirst, !source.transport.serverName.isEmpty, !source.hasProxy {
            // TLS asks for the name that the request has: it is another one, whose address is this host.
            let host = plain.contains(":") ? "[\(plain)]" : plain
            request.headers.replaceOrAdd(name: "host", value: url.port.map { "\(host):\($0)" } ?? host)
            url.host = source.transport.serverName
            guard let renamed = url.url, let other = RegistryDestinations.host(of: renamed) else {
                throw SwiftletError(.invalidArgument, "images.disks: server_name is no host's name")
            }
            (name, request.url) = (other, renamed.absoluteString)
        }
        var targets = addresses.prefix(Self.mostAddresses).map(\.description)
        if targets.isEmpty { targets = [plain] }
        var failure: (any Error)?
        for target in targets {
            do {
                let client = try client(Target(isFirst: isFirst, host: name, address: target))
                return try await client.execute(request, deadline: .now() + TimeAmount(source.transport.timeout))
            } catch let error as HTTPClientError where error == .connectTimeout {
                failure = error
            } catch let error as NIOConnectionError { failure = error } catch let error as IOError { failure = error }
        }
        throw failure ?? SwiftletError(.unavailable, "\(printable(plain)) has no address")
    }

    func close() async {
        for client in clients.values { try? await client.shutdown() }
        clients = [:]
    }

    private func client(_ target: Target) throws -> HTTPClient {
        if let known = clients[target] { return known }
        let transport = source.transport
        var http = HTTPClient.Configuration(
            tlsConfiguration: try tls(isFirst: target.isFirst), redirectConfiguration: .disallow,
            timeout: .init(connect: TimeAmount(connectTimeout), read: TimeAmount(transport.timeout)))
        http.connectionPool.retryConnectionEstablishment = false
        // A literal address needs none, in whatever form AsyncHTTPClient keeps it.
        if target.host != target.address { http.dnsOverride = [target.host: target.address] }
        if source.hasProxy {
            guard let proxy = URLComponents(string: transport.proxy), let host = proxy.host, let port = proxy.port else {
                throw SwiftletError(.invalidArgument, "images.disks: proxy is not http://HOST:PORT")
            }
            let authorization = proxy.user.map { HTTPClient.Authorization.basic(username: $0, password: proxy.password ?? "") }
            http.proxy = .server(host: host, port: port, authorization: authorization)
        }
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: http)
        clients[target] = client
        return client
    }

    /// This node's certificate is shown to the first host alone.
    private func tls(isFirst: Bool) throws -> TLSConfiguration {
        let transport = source.transport
        var tls = TLSConfiguration.makeClientConfiguration()
        if transport.isInsecure { tls.certificateVerification = .none }
        do {
            if !transport.authorities.isEmpty { tls.trustRoots = .file(transport.authorities) }
            if isFirst, !transport.certificate.isEmpty {
                tls.certificateChain = try NIOSSLCertificate.fromPEMFile(transport.certificate).map { .certificate($0) }
                tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: transport.key, format: .pem))
            }
        } catch { throw SwiftletError(.invalidArgument, "images.disks: a transport's certificate or key cannot be read", cause: error) }
        return tls
    }
}
