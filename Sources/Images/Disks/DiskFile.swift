import Crypto
import Errors
import Foundation
import Linux
import Runtime

/// A disk image on its way into the store.
struct DiskFile: Sendable {
    var digest: Digest
    /// Bytes of the file.
    var size: UInt64

    /// Writes what `source` brings to a new file, with holes where there are zeros. Blocks.
    ///
    /// - Parameter source: hands over piece by piece.
    /// - Throws: what `source` throws, `.resourceExhausted` for what exceeds the limits or the disk. Nothing is left at `path` then.
    static func write(
        to path: String, limits: LayerLimits, isCancelled: @escaping @Sendable () -> Bool,
        from source: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws -> DiskFile {
        let output = try SparseFile(creating: path, reserve: limits.diskReserve)
        do {
            var hash = SHA256()
            try source { piece in
                guard !isCancelled() else { throw CancellationError() }
                guard output.size + UInt64(piece.count) <= limits.bytes else {
                    throw SwiftletError(.resourceExhausted, "the disk image exceeds \(limits.bytes) bytes")
                }
                hash.update(bufferPointer: piece)
                try output.append(piece)
            }
            try output.seal()
            return DiskFile(digest: Digest(hash.finalize()), size: output.size)
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Copies a blob, decompressed where its first bytes say gzip or zstd.
    static func copy(
        _ blob: BlobSource, decompressing: Bool, to path: String, limits: LayerLimits, isCancelled: @escaping @Sendable () -> Bool
    ) throws -> DiskFile {
        let reader = try BlobReader(blob)
        let compression = decompressing ? try blob.compression() : .uncompressed
        let stream: any ByteStream = compression == .uncompressed ? reader : try Decompressor(reader, compression: compression)
        return try write(to: path, limits: limits, isCancelled: isCancelled) { body in
            while let piece = try stream.next() { try body(piece) }
        }
    }
}

extension DiskFile {
    /// The disk's name among the store's files. One of the content alone would be that of a layer whose tar is the same bytes, or of the
    /// same bytes in the other format.
    func key(_ format: DiskImage.Format) -> Digest { Digest(of: Array("swiftlet disk 1\n\(format.rawValue)\n\(digest)".utf8)) }
}

/// What the name of a file says about the disk image in it.
struct DiskFileName {
    /// Without the directory and what tells the format.
    private let stem: String
    /// Nil where the name says nothing.
    let format: DiskImage.Format?
    /// Whether it is that of a disk image.
    let isDisk: Bool
    let isCompressed: Bool

    init(_ path: String) {
        var name = path.split(separator: "/").last.map(String.init) ?? ""
        func strip(_ endings: [String]) -> String? {
            guard let ending = endings.first(where: { name.lowercased().hasSuffix($0) }) else { return nil }
            name.removeLast(ending.count)
            return ending
        }
        isCompressed = strip([".gz", ".zst"]) != nil
        let ending = strip([".qcow2", ".raw", ".img"])
        isDisk = ending != nil
        format = ending == ".qcow2" ? .qcow2 : ending == ".raw" ? .raw : nil
        stem = name
    }

    /// `Debian 12-amd64.qcow2` is debian-12-amd64.
    ///
    /// - Throws: `SwiftletError(.invalidArgument)` when nothing is left that could be a name.
    func reference() throws -> ImageReference {
        let plain = stem.lowercased().unicodeScalars.map { scalar -> Character in
            let isAllowed =
                scalar.isASCII
                && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil || "._".unicodeScalars.contains(scalar))
            return isAllowed ? Character(scalar) : "-"
        }
        let parts = String(plain).split(separator: "-")
        do { return try ImageReference(host: ImageReference.defaultHost, path: "library/\(parts.joined(separator: "-"))").checked() } catch
        {
            throw SwiftletError(.invalidArgument, "the file's name makes no image name; give one by --name")
        }
    }
}

extension ImageReference {
    /// As it is read again.
    fileprivate func checked() throws -> ImageReference { try ImageReference("\(name):\(Self.defaultTag)") }
}
