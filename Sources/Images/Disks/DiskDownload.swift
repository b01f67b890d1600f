import AsyncHTTPClient
import Concurrency
import Errors
import Foundation
import NIOCore
import NIOSSL

/// Fetches a disk image from the web into a file. A broken connection is resumed where it broke, as long as the server has the same there.
struct DiskDownload: Sendable {
    let source: DiskSources.Source
    let configuration: ImageStoreConfiguration
    let throughput: PullThroughput
    let work: BlockingPool
    let resolve: RegistryDestinations.Resolve

    private static let writeSize = 1 << 20

    /// What a server says its file is: when it changes, what came before is of no use.
    private actor Version {
        private var known: (tag: String, size: UInt64)?

        func agrees(_ tag: String, _ size: UInt64) -> Bool {
            defer { known = known ?? (tag, size) }
            return known.map { $0 == (tag, size) } ?? true
        }

        func forget() { known = nil }
    }

    /// - Parameter path: must not exist. After a failure the caller deletes what is there.
    func run(to path: String) async throws -> BlobSource {
        let client = try client()
        do {
            let file = try await work.run("create \(path)") { _ in try BlobFile(creating: path) }
            let (step, version) = ("disk image \(shown)", Version())
            try await throughput.watch(step) {
                try await Retry(configuration).run { try await receive(client, into: file, version, step) }
            }
            try? await client.shutdown()
            if let wanted = source.digest, file.digest() != wanted {
                throw SwiftletError(.dataLoss, "\(step): digest mismatch: the content has the digest \(file.digest()), not \(wanted)")
            }
            return BlobSource(path: path, offset: 0, length: file.count)
        } catch {
            try? await client.shutdown()
            throw error
        }
    }

    /// Without the query, which may be a signature.
    private var shown: String { printable(String(source.url.prefix { $0 != "?" }), limit: 200) }

    private func client() throws -> HTTPClient {
        let transport = source.transport
        var tls = TLSConfiguration.makeClientConfiguration()
        do {
            if !transport.authorities.isEmpty { tls.trustRoots = .file(transport.authorities) }
            if !transport.certificate.isEmpty {
                tls.certificateChain = try NIOSSLCertificate.fromPEMFile(transport.certificate).map { .certificate($0) }
                tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: transport.key, format: .pem))
            }
        } catch { throw SwiftletError(.invalidArgument, "images.disks: a transport's certificate or key cannot be read", cause: error) }
        var http = HTTPClient.Configuration(
            tlsConfiguration: tls, redirectConfiguration: .disallow,
            timeout: .init(connect: TimeAmount(configuration.connectTimeout), read: TimeAmount(transport.timeout)))
        if !transport.proxy.isEmpty {
            guard let proxy = URLComponents(string: transport.proxy), let host = proxy.host, let port = proxy.port else {
                throw SwiftletError(.invalidArgument, "images.disks: proxy \(quoted(transport.proxy)) is not http://HOST:PORT")
            }
            http.proxy = .server(host: host, port: port)
        }
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: http)
    }

    private func receive(_ client: HTTPClient, into file: BlobFile, _ version: Version, _ step: String) async throws {
        let have = file.count
        let response = try await get(client, from: have, step)
        let isPart = response.status == .partialContent
        guard response.status == .ok || isPart && have > 0 else {
            throw RegistryFailure.status(response, detail: "", speaker: "the server", step)
        }
        let range = response.headers.first(name: "content-range") ?? ""
        let length = response.headers.first(name: "content-length").flatMap(UInt64.init)
        let total = isPart ? range.split(separator: "/").last.flatMap { UInt64($0) } : length
        guard let total, total <= configuration.limits.bytes else {
            throw SwiftletError(
                .resourceExhausted, "\(step): the server announces no length, or more than \(configuration.limits.bytes) bytes")
        }
        let tag = response.headers.first(name: "etag") ?? response.headers.first(name: "last-modified") ?? ""
        if !(await version.agrees(tag, total)) || isPart && !range.hasPrefix("bytes \(have)-") {
            await version.forget()
            try await work.run(step) { _ in try file.restart() }
            throw RegistryFailure(error: SwiftletError(.dataLoss, "\(step): its content changes while it is fetched"), isTransient: true)
        }
        if have > 0, !isPart { try await work.run(step) { _ in try file.restart() } }
        var pending = ByteBuffer()
        do {
            for try await piece in response.body {
                throughput.add(piece.readableBytes)
                pending.writeImmutableBuffer(piece)
                guard file.count + UInt64(pending.readableBytes) <= total else {
                    throw SwiftletError(.dataLoss, "\(step): more bytes than the \(total) that the server announces")
                }
                guard pending.readableBytes >= Self.writeSize else { continue }
                let full = pending
                pending = ByteBuffer()
                try await work.run(step) { _ in try file.append(full) }
            }
        } catch {
            let rest = pending
            try await work.run(step) { _ in try file.append(rest) }
            if error is SwiftletError || error is CancellationError { throw error }
            throw RegistryFailure(
                error: SwiftletError(.dataLoss, "\(step): truncated after \(file.count) of \(total) bytes", cause: error), isTransient: true
            )
        }
        let rest = pending
        try await work.run(step) { _ in try file.append(rest) }
        guard file.count == total else {
            throw SwiftletError(.dataLoss, "\(step): it ends after \(file.count) bytes where the server announces \(total)")
        }
    }

    private func get(_ client: HTTPClient, from offset: UInt64, _ step: String) async throws -> HTTPClientResponse {
        var request = HTTPClientRequest(url: source.url)
        request.headers.add(name: "user-agent", value: "swiftlet")
        if offset > 0 { request.headers.add(name: "range", value: "bytes=\(offset)-") }
        // Whoever serves the first URL is the administrator's choice, where it sends this node is not.
        guard let first = URL(string: source.url), let origin = RegistryDestinations.origin(of: first), let host = first.host else {
            throw SwiftletError(.invalidArgument, "\(step): it is no URL")
        }
        let authority = first.port.map { "\(host):\($0)" } ?? host
        let destinations = RegistryDestinations(
            endpoint: RegistryEndpoint(origin: origin, host: authority, isMirror: false), allowed: [], isConfigured: true, resolve: resolve)
        for _ in 0...max(0, source.transport.maxRedirects) {
            let response: HTTPClientResponse
            do {
                response = try await client.execute(request, deadline: .now() + TimeAmount(source.transport.timeout))
            } catch { throw RegistryFailure.transport(error, step) }
            guard [301, 302, 303, 307, 308].contains(response.status.code) else { return response }
            guard let location = response.headers.first(name: "location"), let from = URL(string: request.url),
                let target = URL(string: location, relativeTo: from)?.absoluteURL
            else { throw SwiftletError(.dataLoss, "\(step): the redirect's location is no URL") }
            try await destinations.check(target, from: from, "redirect", step)
            request.url = target.absoluteString
        }
        throw SwiftletError(.unavailable, "\(step): more than \(source.transport.maxRedirects) redirects")
    }
}
