import AsyncHTTPClient
import Errors
import Foundation
import NIOCore
import NIOFoundationCompat

/// One pull's conversation with one registry about one repository: OCI distribution spec 1.1.
///
/// Holds the token the registry's token server gave out; credentials never go to a mirror.
actor RegistrySession {
    nonisolated let endpoint: RegistryEndpoint
    nonisolated let repository: String
    private let client: HTTPClient
    private let auth: RegistryAuth?
    private let configuration: ImageStoreConfiguration
    private let destinations: RegistryDestinations
    private var authorization: String?

    private static let maximumRedirects = 5

    /// An error document or a token is small. Bytes.
    private static let maximumAnswerBytes = 1 << 20
    /// Signed URLs of storage are long. Bytes.
    private static let maximumLocationBytes = 16 << 10

    init(
        endpoint: RegistryEndpoint, repository: String, auth: RegistryAuth?, client: HTTPClient, configuration: ImageStoreConfiguration,
        resolve: @escaping RegistryDestinations.Resolve
    ) {
        self.endpoint = endpoint
        self.repository = repository
        self.auth = endpoint.isMirror || auth?.isMeant(for: endpoint.host) == false ? nil : auth
        self.client = client
        self.configuration = configuration
        destinations = RegistryDestinations(endpoint: endpoint, configuration.registries, resolve: resolve)
        if let token = self.auth?.registryToken, !token.isEmpty { authorization = "Bearer \(token)" }
    }

    /// A manifest or index with the registry's word for its type. `reference` is a tag or a digest, already checked.
    func manifest(_ reference: String) async throws -> (bytes: Data, contentType: String?) {
        try await document(
            "manifests/\(reference)", accept: MediaType.manifests, limit: ManifestDocument.maximumBytes,
            step: "manifest \(repository):\(reference) from \(endpoint.host)")
    }

    /// A small blob, wholly in memory and verified.
    ///
    /// - Throws: `SwiftletError(.dataLoss)` when its size or digest is not the descriptor's.
    func smallBlob(_ descriptor: Descriptor, limit: Int, what: String) async throws -> Data {
        let digest = try Digest(descriptor.digest)
        let step = "\(what) \(digest) from \(endpoint.host)"
        guard descriptor.size >= 0, descriptor.size <= limit else {
            throw SwiftletError(.resourceExhausted, "\(step): \(descriptor.size) bytes are more than the \(limit) allowed")
        }
        let bytes = try await document("blobs/\(digest)", accept: ["*/*"], limit: limit, step: step).bytes
        guard bytes.count == Int(descriptor.size) else {
            throw SwiftletError(.dataLoss, "\(step): \(bytes.count) bytes where the manifest announces \(descriptor.size)")
        }
        let found = Digest(of: bytes)
        guard found == digest else { throw SwiftletError(.dataLoss, "\(step): the content has the digest \(found)") }
        return bytes
    }

    /// Begins a download at byte `offset`. The answer's status is 200 (all of it), 206 (from the offset) or 416 (not from there).
    func blob(_ digest: Digest, from offset: UInt64, step: String) async throws -> HTTPClientResponse {
        try await get("blobs/\(digest)", accept: ["*/*"], range: offset > 0 ? "bytes=\(offset)-" : nil, step: step)
    }

    // MARK: Requests

    private func document(_ path: String, accept: [String], limit: Int, step: String) async throws -> (bytes: Data, contentType: String?) {
        let retry = Retry(configuration)
        return try await configuration.leastThroughput.limit(step) {
            try await retry.run {
                try await self.destinations.checkRegistry(step)
                let response = try await self.get(path, accept: accept, range: nil, step: step)
                let bytes = try Self.decoded(
                    try await Self.collect(response, limit: limit, step: step), response.headers["content-encoding"], limit: limit,
                    step: step)
                let type = response.headers.first(name: "content-type").map { String($0.prefix { $0 != ";" }) }
                return (bytes, type)
            }
        }
    }

    private func get(_ path: String, accept: [String], range: String?, step: String) async throws -> HTTPClientResponse {
        var request = HTTPClientRequest(url: "\(endpoint.origin)/v2/\(repository)/\(path)")
        for type in accept { request.headers.add(name: "accept", value: type) }
        if let range { request.headers.add(name: "range", value: range) }
        let sent = authorization
        var (response, server) = try await execute(request, authorization: sent, step)
        if response.status == .unauthorized, try await authorize(response, sent: sent, step) {
            (response, server) = try await execute(request, authorization: authorization, step)
        }
        let isPart = response.status == .partialContent || response.status == .rangeNotSatisfiable
        guard response.status == .ok || isPart && range != nil else { throw try await failure(response, of: server, step) }
        return response
    }

    /// - Returns: the answer, and the URL that gave it after all redirects.
    private func execute(
        _ request: HTTPClientRequest, authorization: String?, _ step: String
    ) async throws -> (response: HTTPClientResponse, server: String) {
        var request = request
        if let authorization { request.headers.replaceOrAdd(name: "authorization", value: authorization) }
        request.headers.replaceOrAdd(name: "user-agent", value: "swiftlet")
        for _ in 0...Self.maximumRedirects {
            let response: HTTPClientResponse
            do {
                response = try await client.execute(request, deadline: .now() + TimeAmount(configuration.progressTimeout))
            } catch {
                throw RegistryFailure.transport(error, step)
            }
            guard let next = try await redirected(request, response, step) else { return (response, request.url) }
            request = next
        }
        throw SwiftletError(.unavailable, "\(step): more than \(Self.maximumRedirects) redirects")
    }

    /// The request that the answer asks for instead; nil when it is no redirect.
    private func redirected(_ request: HTTPClientRequest, _ response: HTTPClientResponse, _ step: String) async throws -> HTTPClientRequest?
    {
        guard [301, 302, 303, 307, 308].contains(response.status.code), request.method == .GET,
            let location = response.headers.first(name: "location"), let source = URL(string: request.url)
        else { return nil }
        guard location.utf8.count <= Self.maximumLocationBytes, let target = URL(string: location, relativeTo: source)?.absoluteURL else {
            throw SwiftletError(.dataLoss, "\(step): the redirect's location is no URL")
        }
        try await destinations.check(target, from: source, "redirect", step)
        var next = request
        next.url = target.absoluteString
        // The token is the registry's; who else is named gets none.
        if RegistryDestinations.origin(of: target) != RegistryDestinations.origin(of: source) { next.headers.remove(name: "authorization") }
        return next
    }

    // MARK: Authentication

    /// Gets what the challenge in `response` asks for. False when there is nothing more to offer.
    private func authorize(_ response: HTTPClientResponse, sent: String?, _ step: String) async throws -> Bool {
        if authorization != sent { return true }
        guard auth?.registryToken.isEmpty ?? true else { return false }
        let challenges = response.headers["www-authenticate"].compactMap(AuthChallenge.init)
        if let bearer = challenges.first(where: { $0.scheme == "bearer" }) {
            authorization = "Bearer \(try await token(bearer, step))"
            return true
        }
        if challenges.contains(where: { $0.scheme == "basic" }), let basic = auth?.basic, basic != sent {
            authorization = basic
            return true
        }
        return false
    }

    private func token(_ challenge: AuthChallenge, _ step: String) async throws -> String {
        let step = "\(step): token"
        guard let realm = challenge.parameters["realm"], var components = URLComponents(string: realm), let host = components.host,
            let server = components.url
        else { throw SwiftletError(.unauthenticated, "\(step): the registry names no usable token server") }
        try await destinations.check(server, "token server", step)
        let service = challenge.parameters["service"]
        let scope = challenge.parameters["scope"] ?? "repository:\(repository):pull"
        var request: HTTPClientRequest
        if let identity = auth?.identityToken, !identity.isEmpty {
            var form = URLComponents()
            form.queryItems = [
                URLQueryItem(name: "grant_type", value: "refresh_token"), URLQueryItem(name: "refresh_token", value: identity),
                URLQueryItem(name: "service", value: service), URLQueryItem(name: "scope", value: scope),
                URLQueryItem(name: "client_id", value: "swiftlet"),
            ]
            request = HTTPClientRequest(url: realm)
            request.method = .POST
            request.headers.add(name: "content-type", value: "application/x-www-form-urlencoded")
            request.body = .bytes(Array((form.percentEncodedQuery ?? "").replacing("+", with: "%2B").utf8))
        } else {
            components.queryItems =
                (components.queryItems ?? [])
                + [("service", service), ("scope", scope)].compactMap { name, value in value.map { URLQueryItem(name: name, value: $0) } }
            request = HTTPClientRequest(url: components.string ?? realm)
        }
        let (answer, tokenServer) = try await execute(
            request, authorization: auth?.identityToken.isEmpty == false ? nil : auth?.basic, "\(step) from \(host)")
        guard answer.status == .ok else { throw try await failure(answer, of: tokenServer, "\(step) from \(host)") }
        struct Token: Decodable {
            var token: String?
            var accessToken: String?

            enum CodingKeys: String, CodingKey {
                case token
                case accessToken = "access_token"
            }
        }
        let bytes = try await Self.collect(answer, limit: Self.maximumAnswerBytes, step: step)
        let decoded = try? JSONDecoder().decode(Token.self, from: bytes)
        guard let token = decoded?.token ?? decoded?.accessToken, token.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw SwiftletError(.unauthenticated, "\(step): the token server at \(host) gave no token")
        }
        return token
    }

    // MARK: Answers

    private static func collect(_ response: HTTPClientResponse, limit: Int, step: String) async throws -> Data {
        do {
            return Data(buffer: try await response.body.collect(upTo: limit))
        } catch is NIOTooManyBytesError {
            throw SwiftletError(.resourceExhausted, "\(step): the answer exceeds \(limit) bytes")
        } catch {
            throw RegistryFailure.transport(error, step)
        }
    }

    /// A small document without what its transport put around it. Compression that was not asked for is common behind proxies.
    private static func decoded(_ bytes: Data, _ encodings: [String], limit: Int, step: String) throws -> Data {
        let encodings = encodings.flatMap { $0.lowercased().split { $0 == "," || $0 == " " } }.filter { $0 != "identity" }
        let compression: Compression
        switch encodings {
        case []: return bytes
        case ["gzip"], ["x-gzip"]: compression = .gzip
        case ["zstd"]: compression = .zstd
        default:
            let names = printable(encodings.joined(separator: ", "))
            throw SwiftletError(.dataLoss, "\(step): the content encoding \(names) was not asked for")
        }
        let stream = try Decompressor(DataStream(bytes), compression: compression)
        var plain = Data()
        do {
            while let piece = try stream.next() {
                guard plain.count + piece.count <= limit else {
                    throw SwiftletError(.resourceExhausted, "the answer exceeds \(limit) bytes when decompressed")
                }
                plain.append(contentsOf: piece)
            }
        } catch { throw SwiftletError.wrap(error, step) }
        return plain
    }

    private func failure(_ response: HTTPClientResponse, of server: String, _ step: String) async throws -> RegistryFailure {
        let body = (try? await response.body.collect(upTo: Self.maximumAnswerBytes)).map { Data(buffer: $0) } ?? Data()
        let plain = (try? Self.decoded(body, response.headers["content-encoding"], limit: Self.maximumAnswerBytes, step: step)) ?? Data()
        let origin = URL(string: server).flatMap { RegistryDestinations.origin(of: $0) }
        let speaker = origin == endpoint.origin ? "the registry" : origin.map { printable($0, limit: 200) } ?? "the server"
        return .status(response, detail: RegistryFailure.detail(plain), speaker: speaker, step)
    }
}

/// Bytes in memory as a stream.
private final class DataStream: ByteStream {
    private let bytes: UnsafeMutableRawBufferPointer
    private var isRead = false

    init(_ data: Data) {
        bytes = .allocate(byteCount: data.count, alignment: 16)
        bytes.copyBytes(from: data)
    }

    deinit { bytes.deallocate() }

    func next() throws -> UnsafeRawBufferPointer? {
        guard !isRead, !bytes.isEmpty else { return nil }
        isRead = true
        return UnsafeRawBufferPointer(bytes)
    }
}
