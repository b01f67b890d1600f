import Errors
import Foundation

/// Named files of an image archive: members of a tar that is read in place, or files of a directory.
struct ImageArchive: Sendable {
    /// What the operator called it.
    let path: String
    private let files: [String: BlobSource]
    private let directory: String?
    /// The tar when it had to be decompressed first; the caller deletes it.
    let temporary: String?

    private static let maximumMembers = 100_000
    /// Bytes of the names of all members and of what links name.
    private static let maximumNameBytes = 32 << 20

    /// Opens a directory or a tar, plain or compressed. Blocks.
    ///
    /// - Parameter scratch: where the tar goes if it must be decompressed; need not exist.
    init(path: String, scratch: String, limits: LayerLimits) throws {
        self.path = path
        var status = stat()
        guard stat(path, &status) == 0 else { throw SwiftletError.system("image archive \(path)") }
        if status.st_mode & S_IFMT == S_IFDIR {
            directory = path
            files = [:]
            temporary = nil
            return
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SwiftletError(.invalidArgument, "image archive \(path): neither a file nor a directory")
        }
        directory = nil
        var source = BlobSource(path: path, offset: 0, length: UInt64(status.st_size))
        let compression = try source.compression()
        if compression == .uncompressed {
            temporary = nil
            files = try Self.index(source)
            return
        }
        do {
            source = try Self.decompress(source, compression, to: scratch, limits: limits)
            files = try Self.index(source)
        } catch {
            unlink(scratch)
            throw SwiftletError.wrap(error, "image archive \(path)")
        }
        temporary = scratch
    }

    /// Where `name` is, or nil. Names are relative, without `.` and `..`.
    func file(_ name: String) -> BlobSource? {
        guard let directory else { return files[name] }
        guard !name.isEmpty, !name.hasPrefix("/"), !name.split(separator: "/", omittingEmptySubsequences: false).contains("..") else {
            return nil
        }
        let path = "\(directory)/\(name)"
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return BlobSource(path: path, offset: 0, length: UInt64(status.st_size))
    }

    /// The small file `name`.
    ///
    /// - Throws: `SwiftletError(.dataLoss)` when it is missing.
    func contents(_ name: String, limit: Int) throws -> Data {
        guard let source = file(name) else { throw SwiftletError(.dataLoss, "image archive \(path): \(name) is missing") }
        return try source.contents(limit: limit, what: "image archive \(path): \(name)")
    }

    private static func index(_ source: BlobSource) throws -> [String: BlobSource] {
        let tar = TarReader(try BlobReader(source))
        var files: [String: BlobSource] = [:]
        var links: [(name: String, target: String)] = []
        var nameBytes = 0
        while let entry = try tar.next() {
            nameBytes += entry.path.count + entry.linkPath.count
            guard nameBytes <= maximumNameBytes else {
                throw SwiftletError(.resourceExhausted, "image archive \(source.path): names of more than \(maximumNameBytes) bytes")
            }
            guard files.count + links.count < maximumMembers else {
                throw SwiftletError(.resourceExhausted, "image archive \(source.path): more than \(maximumMembers) members")
            }
            guard entry.sparse == nil else {
                throw SwiftletError(
                    .unimplemented, "image archive \(source.path): \(entry.displayPath) is a sparse file, which cannot be read in place")
            }
            let name = normal(entry.path)
            switch entry.kind {
            case .file: files[name] = BlobSource(path: source.path, offset: source.offset + tar.offset, length: entry.size)
            case .hardLink: links.append((name, normal(entry.linkPath)))
            // docker save of old shared layers that were equal by links from one directory to another.
            case .symlink: links.append((name, resolve(String(decoding: entry.linkPath, as: UTF8.self), from: name)))
            default: break
            }
        }
        for (name, target) in links where files[name] == nil { files[name] = files[target] }
        return files
    }

    private static func normal(_ path: [UInt8]) -> String {
        String(decoding: path, as: UTF8.self).split(separator: "/").filter { $0 != "." }.joined(separator: "/")
    }

    private static func resolve(_ target: String, from name: String) -> String {
        var parts = name.split(separator: "/").dropLast()
        for part in target.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return parts.joined(separator: "/")
    }

    private static func decompress(
        _ source: BlobSource, _ compression: Compression, to path: String, limits: LayerLimits
    ) throws -> BlobSource {
        let output = try SparseFile(creating: path, reserve: limits.diskReserve)
        let stream = try Decompressor(BlobReader(source), compression: compression)
        while let piece = try stream.next() {
            try output.append(piece)
            guard output.size <= limits.bytes else {
                throw SwiftletError(.resourceExhausted, "more than \(limits.bytes) bytes when decompressed")
            }
        }
        try output.flush()
        return BlobSource(path: path, offset: 0, length: output.size)
    }
}
