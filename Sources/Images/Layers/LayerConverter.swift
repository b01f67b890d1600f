import Crypto
import Errors
import Foundation

/// Turns a layer's blob into a read-only disk image. Nothing is unpacked on the host.
struct LayerConverter: Sendable {
    static let filesystem = "erofs"

    var limits = LayerLimits()

    struct Result: Sendable {
        /// Digest of the uncompressed tar.
        var diffID: Digest
        /// Bytes of the disk image.
        var sizeBytes: UInt64
        /// Members of the tar.
        var entries: Int
    }

    /// What a layer is made of.
    enum Content: Sendable {
        case tar(BlobSource, Compression)
        /// One file of a name, which may be a path. `digest` is the blob's.
        case file(BlobSource, name: String, digest: Digest)
    }

    /// Makes a layer of one file, as `convert` makes one of a tar. Its digest stands for the name and the content.
    func wrap(_ blob: BlobSource, name: String, digest: Digest, to path: String) throws -> Result {
        let output = try SparseFile(creating: path, reserve: limits.diskReserve)
        do {
            let reader = try BlobReader(blob)
            let writer = try ErofsWriter(output)
            var tree = LayerTree(limits: limits)
            try tree.add(TarEntry(kind: .file, path: Array(name.utf8), mode: 0o644, size: blob.length)) { xattrs in
                try writer.store(size: blob.length, xattrs: xattrs) { body in
                    while let piece = try reader.next() { try body(.bytes(piece)) }
                }
            }
            let size = try writer.finish(root: tree.root)
            try output.seal()
            return Result(diffID: Digest(of: Array("swiftlet file 1\n\(digest)\n\(name)".utf8)), sizeBytes: size, entries: 1)
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Converts `blob` into a new file at `path`, which is read-only, world-readable and on disk when this returns.
    ///
    /// Blocks, for as long as reading the blob takes. On failure nothing is left at `path`.
    /// - Parameters:
    ///   - compression: nil to go by the blob's first bytes; a blob that is not what it is said to be is an error.
    ///   - isCancelled: asked now and then.
    /// - Throws: `SwiftletError`: `.dataLoss` for damaged blobs, `.invalidArgument` for hostile entries, `.resourceExhausted`
    ///   for what exceeds the limits or the disk.
    func convert(
        _ blob: BlobSource, compression: Compression?, to path: String, isCancelled: @escaping @Sendable () -> Bool = { false }
    ) throws -> Result {
        let output = try SparseFile(creating: path, reserve: limits.diskReserve)
        do {
            return try convert(blob, compression: compression, into: output, isCancelled: isCancelled)
        } catch {
            unlink(path)
            throw error
        }
    }

    private func convert(
        _ blob: BlobSource, compression: Compression?, into output: SparseFile, isCancelled: @escaping @Sendable () -> Bool
    ) throws -> Result {
        let found = try blob.compression()
        if let compression, blob.length > 0, found != compression {
            throw SwiftletError(.dataLoss, "the blob is said to have compression \(compression) but has \(found)")
        }
        let reader = try BlobReader(blob)
        let plain: any ByteStream = found == .uncompressed ? reader : try Decompressor(reader, compression: found)
        let hashed = HashingStream(plain, limit: limits.bytes, isCancelled: isCancelled)
        let tar = TarReader(hashed)
        let writer = try ErofsWriter(output)
        var tree = LayerTree(limits: limits)
        var entries = 0
        var holeBytes: UInt64 = 0
        while let entry = try tar.next() {
            entries += 1
            guard entries <= limits.entries else {
                throw SwiftletError(
                    .resourceExhausted, "entry \(entry.displayPath): more than the \(limits.entries) entries a layer may have")
            }
            // Holes cost no disk, but the guest's reads of them, and block numbers of the image.
            holeBytes = holeBytes.addingReportingOverflow(entry.holeBytes).partialValue
            guard entry.holeBytes <= limits.bytes, holeBytes <= limits.bytes else {
                throw SwiftletError(
                    .resourceExhausted, "entry \(entry.displayPath): the holes of the layer's sparse files exceed \(limits.bytes) bytes")
            }
            try tree.add(entry) { xattrs in
                try writer.store(size: entry.size, xattrs: xattrs, read: tar.readData)
            }
        }
        try tar.drain()
        let size = try writer.finish(root: tree.root)
        try output.seal()
        return Result(diffID: hashed.digest(), sizeBytes: size, entries: entries)
    }
}

/// Passes a stream on while digesting and counting it.
private final class HashingStream: ByteStream {
    private let stream: any ByteStream
    private let limit: UInt64
    private let isCancelled: @Sendable () -> Bool
    private var hash = SHA256()
    private var count: UInt64 = 0

    init(_ stream: any ByteStream, limit: UInt64, isCancelled: @escaping @Sendable () -> Bool) {
        self.stream = stream
        self.limit = limit
        self.isCancelled = isCancelled
    }

    func next() throws -> UnsafeRawBufferPointer? {
        guard !isCancelled() else { throw CancellationError() }
        guard let piece = try stream.next() else { return nil }
        hash.update(bufferPointer: piece)
        count += UInt64(piece.count)
        guard count <= limit else {
            throw SwiftletError(.resourceExhausted, "the uncompressed layer exceeds \(limit) bytes")
        }
        return piece
    }

    func digest() -> Digest { Digest(hash.finalize()) }
}
