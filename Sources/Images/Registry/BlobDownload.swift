import AsyncHTTPClient
import Concurrency
import Crypto
import Errors
import Foundation
import NIOCore
import Synchronization

/// Fetches one blob into a file, digesting it on the way. A broken connection is resumed where it broke.
struct BlobDownload: Sendable {
    let session: RegistrySession
    let descriptor: Descriptor
    let configuration: ImageStoreConfiguration
    let throughput: PullThroughput
    let work: BlockingPool

    /// Bytes collected before they are written.
    private static let writeSize = 1 << 20

    /// - Parameter path: must not exist. After a failure the caller deletes what is there.
    /// - Throws: `SwiftletError(.dataLoss)` naming the blob when its length or digest is not the descriptor's.
    func run(to path: String) async throws -> BlobSource {
        let digest = try Digest(descriptor.digest)
        let step = "layer \(digest) from \(session.endpoint.host)"
        guard let size = UInt64(exactly: descriptor.size), size <= configuration.limits.bytes else {
            throw SwiftletError(.resourceExhausted, "\(step): a size of \(descriptor.size) bytes is not allowed")
        }
        let file = try await work.run("create \(path)") { _ in try BlobFile(creating: path) }
        try await throughput.watch(step) {
            try await Retry(configuration).run { try await receive(digest, size, into: file, step) }
        }
        let found = file.digest()
        guard found == digest else { throw SwiftletError(.dataLoss, "\(step): the content has the digest \(found)") }
        return BlobSource(path: path, offset: 0, length: size)
    }

    private func receive(_ digest: Digest, _ size: UInt64, into file: BlobFile, _ step: String) async throws {
        var have = file.count
        if have == size, size > 0 { return }
        var response = try await session.blob(digest, from: have, step: step)
        if response.status == .rangeNotSatisfiable {
            // Of storage that serves no parts, or that has something else there than before.
            try await work.run(step) { _ in try file.restart() }
            have = 0
            response = try await session.blob(digest, from: 0, step: step)
        }
        if have > 0 {
            let continues =
                response.status == .partialContent && response.headers.first(name: "content-range")?.hasPrefix("bytes \(have)-") == true
            if !continues {
                guard response.status == .ok else { throw SwiftletError(.dataLoss, "\(step): the registry resumed at the wrong place") }
                try await work.run(step) { _ in try file.restart() }
            }
        }
        var pending = ByteBuffer()
        do {
            for try await piece in response.body {
                throughput.add(piece.readableBytes)
                pending.writeImmutableBuffer(piece)
                guard file.count + UInt64(pending.readableBytes) <= size else {
                    throw SwiftletError(.dataLoss, "\(step): more bytes than the \(size) the manifest announces")
                }
                if pending.readableBytes >= Self.writeSize {
                    let full = pending
                    pending = ByteBuffer()
                    try await work.run(step) { _ in try file.append(full) }
                }
            }
        } catch {
            // What came is good for the next attempt.
            let rest = pending
            try await work.run(step) { _ in try file.append(rest) }
            let isSilence = (error as? HTTPClientError) == .readTimeout || (error as? HTTPClientError) == .cancelled
            if isSilence || error is SwiftletError || error is CancellationError { throw RegistryFailure.transport(error, step) }
            throw RegistryFailure(
                error: SwiftletError(.dataLoss, "\(step): truncated after \(file.count) of \(size) bytes", cause: error), isTransient: true)
        }
        let rest = pending
        try await work.run(step) { _ in try file.append(rest) }
        guard file.count == size else {
            throw SwiftletError(.dataLoss, "\(step): it ends after \(file.count) bytes where the manifest announces \(size)")
        }
    }
}

/// A growing file and the digest of what is in it.
final class BlobFile: Sendable {
    private struct State {
        var hash = SHA256()
        var count: UInt64 = 0
    }

    private let descriptor: Int32
    private let path: String
    private let state = Mutex(State())

    init(creating path: String) throws {
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SwiftletError.system("create \(path)") }
        self.path = path
    }

    deinit {
        close(descriptor)
    }

    var count: UInt64 { state.withLock(\.count) }

    /// Blocks.
    func append(_ buffer: ByteBuffer) throws {
        try buffer.withUnsafeReadableBytes { bytes in
            try state.withLock { state in
                var done = 0
                while done < bytes.count {
                    let written = pwrite(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(state.count))
                    if written < 0 && errno == EINTR { continue }
                    guard written > 0 else { throw SwiftletError.system("write \(path)") }
                    state.hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[done..<(done + written)]))
                    state.count += UInt64(written)
                    done += written
                }
            }
        }
    }

    /// Blocks.
    func restart() throws {
        try state.withLock { state in
            guard ftruncate(descriptor, 0) == 0 else { throw SwiftletError.system("truncate \(path)") }
            state = State()
        }
    }

    func digest() -> Digest {
        state.withLock { Digest($0.hash.finalize()) }
    }
}
