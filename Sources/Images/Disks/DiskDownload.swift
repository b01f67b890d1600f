import AsyncHTTPClient
import Concurrency
import Errors
import Foundation
import NIOCore

/// Fetches a disk image from the web into a file. A broken connection is resumed where it broke, as long as the server has the same there.
struct DiskDownload: Sendable {
    let source: DiskSources.Source
    let configuration: ImageStoreConfiguration
    let throughput: PullThroughput
    let work: BlockingPool
    let resolve: RegistryDestinations.Resolve

    private static let writeSize = 1 << 20

    /// What came so far is of this version.
    private actor Progress {
        private(set) var version: DiskVersion?
        private(set) var hasChanged = false

        func begins(_ version: DiskVersion) {
            if let known = self.version, known != version { hasChanged = true }
            self.version = version
        }
    }

    /// - Parameter path: must not exist. After a failure the caller deletes what is there.
    func run(to path: String) async throws -> BlobSource {
        let connections = DiskConnections(source, connectTimeout: configuration.connectTimeout)
        do {
            let file = try await work.run("create \(path)") { _ in try BlobFile(creating: path) }
            let (step, progress) = ("disk image \(shown)", Progress())
            try await throughput.watch(step) {
                try await Retry(configuration).run { try await receive(connections, into: file, progress, step) }
            }
            await connections.close()
            if let wanted = source.digest, file.digest() != wanted {
                throw SwiftletError(.dataLoss, "\(step): digest mismatch: the content has the digest \(file.digest()), not \(wanted)")
            }
            return BlobSource(path: path, offset: 0, length: file.count)
        } catch {
            await connections.close()
            throw error
        }
    }

    /// Without the query, which may be a signature.
    private var shown: String { printable(String(source.url.prefix { $0 != "?" }), limit: 200) }

    private func receive(_ connections: DiskConnections, into file: BlobFile, _ progress: Progress, _ step: String) async throws {
        let known = await progress.version
        if let known, known.size == file.count { return }
        // Without a validator nobody can tell whether the rest would be that of the same file.
        if file.count > 0, known?.validator == nil { try await restart(file, step) }
        let response = try await get(connections, from: file.count, known, step)
        if let encoding = response.headers.first(name: "content-encoding"), encoding.lowercased() != "identity" {
            throw SwiftletError(
                .dataLoss, "\(step): the server sends it encoded (\(printable(encoding, limit: 40))), which was not asked for")
        }
        let version: DiskVersion
        switch response.status {
        case .ok:
            guard let size = response.headers.first(name: "content-length").flatMap(UInt64.init), size <= configuration.limits.bytes else {
                throw SwiftletError(
                    .resourceExhausted, "\(step): the server announces no length, or more than \(configuration.limits.bytes) bytes")
            }
            try await restart(file, step)
            version = DiskVersion(size: size, response)
            await progress.begins(version)
        case .partialContent where file.count > 0, .rangeNotSatisfiable where file.count > 0:
            if response.status == .partialContent, let known, known.holds(response, from: file.count) {
                version = known
                break
            }
            try await restart(file, step)
            throw RegistryFailure(error: SwiftletError(.dataLoss, "\(step): its content changes while it is fetched"), isTransient: true)
        default: throw RegistryFailure.status(response, detail: "", speaker: "the server", step)
        }
        try await take(response, version, into: file, hasChanged: await progress.hasChanged, step)
    }

    private func restart(_ file: BlobFile, _ step: String) async throws {
        guard file.count > 0 else { return }
        try await work.run(step) { _ in try file.restart() }
    }

    private func take(
        _ response: HTTPClientResponse, _ version: DiskVersion, into file: BlobFile, hasChanged: Bool, _ step: String
    ) async throws {
        let total = version.size
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
            let isSilence = (error as? HTTPClientError) == .readTimeout || (error as? HTTPClientError) == .cancelled
            if isSilence || error is SwiftletError || error is CancellationError { throw RegistryFailure.transport(error, step) }
            let change = hasChanged ? "its content changes while it is fetched; " : ""
            throw RegistryFailure(
                error: SwiftletError(.dataLoss, "\(step): \(change)truncated after \(file.count) of \(total) bytes", cause: error),
                isTransient: true)
        }
        let rest = pending
        try await work.run(step) { _ in try file.append(rest) }
        guard file.count == total else {
            throw SwiftletError(.dataLoss, "\(step): it ends after \(file.count) bytes where the server announces \(total)")
        }
    }

    private func get(
        _ connections: DiskConnections, from offset: UInt64, _ version: DiskVersion?, _ step: String
    ) async throws -> HTTPClientResponse {
        var request = HTTPClientRequest(url: source.url)
        request.headers.add(name: "user-agent", value: "swiftlet")
        request.headers.add(name: "accept-encoding", value: "identity")
        if offset > 0, let validator = version?.validator {
            request.headers.add(name: "range", value: "bytes=\(offset)-")
            request.headers.add(name: "if-range", value: validator)
        }
        let destinations = DiskDestinations(source: source, reach: configuration.disks.reach, resolve: resolve)
        var redirector: URL?
        for _ in 0...max(0, source.transport.maxRedirects) {
            guard let target = URL(string: request.url) else { throw SwiftletError(.invalidArgument, "\(step): it is no URL") }
            let addresses = try await destinations.addresses(of: target, from: redirector, step)
            let response: HTTPClientResponse
            do { response = try await connections.execute(request, at: addresses) } catch { throw RegistryFailure.transport(error, step) }
            guard [301, 302, 303, 307, 308].contains(response.status.code) else { return response }
            guard let location = response.headers.first(name: "location"), location.utf8.count <= Self.longestLocation,
                let next = URL(string: location, relativeTo: target)?.absoluteURL
            else { throw SwiftletError(.dataLoss, "\(step): the redirect's location is no URL") }
            redirector = target
            request.url = next.absoluteString
        }
        throw SwiftletError(.unavailable, "\(step): more than \(source.transport.maxRedirects) redirects")
    }

    /// Bytes: signed URLs of storage are long.
    private static let longestLocation = 16 << 10
}
