import Errors
import Foundation

/// Where the bytes of a blob are on this machine: a file, or a part of one (a member of an archive that is read in place).
public struct BlobSource: Sendable, Equatable {
    public var path: String
    /// First byte.
    public var offset: UInt64
    /// Bytes.
    public var length: UInt64

    public init(path: String, offset: UInt64, length: UInt64) {
        self.path = path
        self.offset = offset
        self.length = length
    }

    /// Reads all of it, which must be `limit` bytes at most. Blocks.
    ///
    /// - Throws: `SwiftletError(.resourceExhausted)` beyond the limit.
    func contents(limit: Int, what: String) throws -> Data {
        guard length <= UInt64(limit) else {
            throw SwiftletError(.resourceExhausted, "\(what): \(length) bytes are more than the \(limit) allowed")
        }
        let reader = try BlobReader(self)
        var data = Data(capacity: Int(length))
        while let chunk = try reader.next() { data.append(contentsOf: chunk) }
        guard data.count == Int(length) else {
            throw SwiftletError(.dataLoss, "\(what): \(data.count) bytes where \(length) were announced")
        }
        return data
    }

    /// How the blob is compressed, by its first bytes. Blocks.
    func compression() throws -> Compression {
        let reader = try BlobReader(self)
        return try withExtendedLifetime(reader) {
            try Compression(magic: reader.next().map { Array($0.prefix(4)) } ?? [])
        }
    }
}

/// A sequence of buffers; each is valid until the next call.
protocol ByteStream: AnyObject {
    func next() throws -> UnsafeRawBufferPointer?
}

/// Reads a blob from disk in large pieces. Blocking; belongs to one thread.
final class BlobReader: ByteStream {
    private let descriptor: Int32
    private let path: String
    private var position: UInt64
    private var remaining: UInt64
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)

    init(_ source: BlobSource) throws {
        descriptor = open(source.path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else { throw SwiftletError.system("open \(source.path)") }
        path = source.path
        position = source.offset
        remaining = source.length
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
    }

    func next() throws -> UnsafeRawBufferPointer? {
        guard remaining > 0 else { return nil }
        let wanted = Int(min(UInt64(buffer.count), remaining))
        var count: Int
        repeat { count = pread(descriptor, buffer.baseAddress, wanted, off_t(position)) } while count < 0 && errno == EINTR
        guard count >= 0 else { throw SwiftletError.system("read \(path)") }
        guard count > 0 else { return nil }
        position += UInt64(count)
        remaining -= UInt64(count)
        return UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count])
    }
}
