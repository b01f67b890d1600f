import AsyncHTTPClient
import Concurrency
import Errors
import Foundation
import NIOCore
import NIOFoundationCompat
import NIOHTTP1
import NIOSSL
import SwiftletVersion

/// A receiver of OTLP over HTTP.
public struct OTLPConfiguration: Sendable, Equatable {
    /// http:// or https:// URL to which `/v1/logs` is added.
    public var endpoint: String
    /// Whose certificates the receiver may have, a PEM file; nil: the node's usual ones.
    public var authorities: String?
    /// Of one request, with its answer.
    public var timeout: Duration
    public var compresses: Bool

    public init(endpoint: String, authorities: String? = nil, timeout: Duration = .seconds(10), compresses: Bool = false) {
        (self.endpoint, self.authorities, self.timeout, self.compresses) = (endpoint, authorities, timeout, compresses)
    }
}

/// Posts lines to it, one request after the other.
struct OTLPDelivery {
    /// Bytes of the log in one request: with short lines of much that is escaped, its JSON stays below 2 MiB.
    private static let batch = 256 << 10
    /// How long a few lines wait for others.
    private static let gathering = Duration.milliseconds(200)
    /// What is read of an answer. One that is longer counts by its status: no request is to come again because of it.
    private static let mostAnswer = 64 << 10
    /// What a receiver can have this node wait by Retry-After.
    private static let longestWait = Duration.seconds(300)

    private enum Outcome: Sendable {
        /// How many of the records it has refused, and why.
        case taken(rejected: Int, String)
        case retry(after: Duration?, String)
        case refused(String)
    }

    private let configuration: OTLPConfiguration
    private let queue: LineQueue
    private let health: CollectorHealth

    init(_ configuration: OTLPConfiguration, queue: LineQueue, health: CollectorHealth) {
        (self.configuration, self.queue, self.health) = (configuration, queue, health)
    }

    func run() async {
        let client = client()
        var requests = OTLPRequest(version: swiftletVersion)
        var pause = RetryPause(first: .milliseconds(500), longest: .seconds(30))
        for await _ in queue.arrivals {
            while !Task.isCancelled {
                if queue.bytes < Self.batch, !queue.isClosed { try? await Task.sleep(for: Self.gathering) }
                guard let pieces = queue.take(atMost: Self.batch) else { break }
                await post(requests.encode(pieces), pieces, by: client, &pause)
            }
        }
        // Also when the task is cancelled, which closes the connections at once.
        try? await client.shutdown()
    }

    private func client() -> HTTPClient {
        var tls = TLSConfiguration.makeClientConfiguration()
        if let authorities = configuration.authorities { tls.trustRoots = .file(authorities) }
        var http = HTTPClient.Configuration(
            tlsConfiguration: tls, redirectConfiguration: .disallow, timeout: .init(connect: TimeAmount(configuration.timeout)))
        http.connectionPool.retryConnectionEstablishment = false
        http.httpVersion = .http1Only
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: http)
    }

    /// Returns when the receiver has taken or refused the request, or the task is cancelled.
    private func post(_ json: [UInt8], _ pieces: [CollectedPiece], by client: HTTPClient, _ pause: inout RetryPause) async {
        let body = configuration.compresses ? Gzip.compress(json) : json
        while !Task.isCancelled {
            switch await attempt(body, by: client) {
            case .taken(let claimed, let reason):
                let lines = pieces.lineCount
                // The receiver's number can be any.
                let rejected = min(max(claimed, 0), lines)
                health.sent(lines - rejected)
                if rejected > 0 {
                    queue.refuse(lines: rejected)
                    health.refused(rejected, reason)
                }
                return pause.reset()
            case .refused(let reason):
                queue.refuse(pieces)
                health.failed(reason)
                // One that refuses everything is not to be asked as fast as it answers.
                return await sleep(&pause)
            case .retry(let after, let reason):
                if Task.isCancelled { return }
                health.failed(reason)
                await sleep(&pause, atLeast: after ?? .zero)
            }
        }
    }

    /// Many nodes are not to come back at the same moment, and none at once, whatever the receiver says.
    private func sleep(_ pause: inout RetryPause, atLeast asked: Duration = .zero) async {
        let own = pause.advance() * Double.random(in: 0.75...1.25)
        try? await Task.sleep(for: max(own, min(asked, Self.longestWait)))
    }

    private func attempt(_ body: [UInt8], by client: HTTPClient) async -> Outcome {
        let base = configuration.endpoint.hasSuffix("/") ? String(configuration.endpoint.dropLast()) : configuration.endpoint
        var request = HTTPClientRequest(url: base + "/v1/logs")
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/json")
        request.headers.add(name: "user-agent", value: "swiftlet/\(swiftletVersion)")
        if configuration.compresses { request.headers.add(name: "content-encoding", value: "gzip") }
        request.body = .bytes(ByteBuffer(bytes: body))
        do {
            let (request, timeout) = (request, configuration.timeout)
            // The client's own time-out ends with the answer's head.
            return try await withTimeout(timeout, "the request") {
                let answer = try await client.execute(request, timeout: TimeAmount(timeout))
                return Self.outcome(answer.status, answer.headers, try await Self.beginning(of: answer.body))
            }
        } catch {
            return .retry(after: nil, "\(error)")
        }
    }

    /// Closes the connection where more is to come.
    private static func beginning(of body: HTTPClientResponse.Body) async throws -> ByteBuffer {
        var text = ByteBuffer()
        for try await part in body {
            text.writeImmutableBuffer(part)
            if text.readableBytes > mostAnswer { break }
        }
        return text
    }

    /// opentelemetry-proto, docs/specification.md, "OTLP/HTTP Response".
    private static func outcome(_ status: HTTPResponseStatus, _ headers: HTTPHeaders, _ body: ByteBuffer) -> Outcome {
        let text = printable(String(decoding: body.readableBytesView.prefix(200), as: UTF8.self), limit: 200)
        switch status.code {
        case 200..<300:
            guard let partial = (try? JSONDecoder().decode(Answer.self, from: body))?.partialSuccess else { return .taken(rejected: 0, "") }
            return .taken(rejected: partial.rejected, partial.errorMessage ?? "")
        case 429, 502, 503, 504: return .retry(after: RetryAfter.wait(headers.first(name: "retry-after")), "\(status): \(text)")
        default: return .refused("\(status): \(text)")
        }
    }

    private struct Answer: Decodable {
        struct Partial: Decodable {
            var rejected = 0
            var errorMessage: String?

            private enum CodingKeys: String, CodingKey {
                case rejectedLogRecords, errorMessage
            }

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: CodingKeys.self)
                // A number of 64 bits is a string; some send a number.
                if let text = try? container.decode(String.self, forKey: .rejectedLogRecords) {
                    rejected = max(0, Int(text) ?? 0)
                } else {
                    rejected = max(0, (try? container.decode(Int.self, forKey: .rejectedLogRecords)) ?? 0)
                }
                errorMessage = try? container.decode(String.self, forKey: .errorMessage)
            }
        }

        var partialSuccess: Partial?
    }
}
