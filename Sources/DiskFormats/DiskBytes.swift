import Errors
import Glibc

/// The bytes of a file that somebody says is a disk image. Blocking; belongs to one thread.
public struct DiskBytes {
    /// All of them.
    public let count: UInt64
    private let fill: (UnsafeMutableRawBufferPointer, UInt64) throws -> Void

    /// An open regular file.
    ///
    /// - Throws: `.invalidArgument` for anything else.
    public init(descriptor: Int32) throws {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw SwiftletError(.invalidArgument, "it is no regular file")
        }
        count = UInt64(status.st_size)
        fill = { buffer, offset in
            var done = 0
            while done < buffer.count {
                let got = pread(descriptor, buffer.baseAddress?.advanced(by: done), buffer.count - done, off_t(offset) + off_t(done))
                if got < 0, errno == EINTR { continue }
                guard got > 0 else {
                    let reason = got < 0 ? String(cString: strerror(errno)) : "it has become shorter"
                    throw SwiftletError(.unavailable, "reading \(buffer.count) bytes at \(offset): \(reason)")
                }
                done += got
            }
        }
    }

    /// Bytes at hand.
    public init(_ bytes: [UInt8]) {
        count = UInt64(bytes.count)
        fill = { buffer, offset in
            let start = Int(offset)
            bytes[start..<(start + buffer.count)].withUnsafeBytes { buffer.copyMemory(from: $0) }
        }
    }

    /// Whether `length` bytes from `offset` on are all within the file.
    func holds(_ offset: UInt64, _ length: UInt64) -> Bool { offset <= count && length <= count - offset }

    /// `length` bytes from `offset` on.
    ///
    /// - Throws: a ``DiskRefusal`` that names `what` when they are not all within the file.
    func read(_ offset: UInt64, _ length: Int, _ what: @autoclosure () -> String) throws -> [UInt8] {
        guard length >= 0, holds(offset, UInt64(length)) else { throw DiskRefusal("its \(what()) is outside of the file") }
        return try [UInt8](unsafeUninitializedCapacity: length) { buffer, filled in
            try fill(UnsafeMutableRawBufferPointer(buffer), offset)
            filled = length
        }
    }
}

/// Why a file is not taken for a disk image: a sentence about "it".
public struct DiskRefusal: Error, Equatable {
    public let reason: String

    init(_ reason: String) { self.reason = reason }
}

extension Array where Element == UInt8 {
    /// A big-endian integer, as all of a qcow2 image's are. The caller has made sure that it is there.
    func integer<Value: FixedWidthInteger>(_ offset: Int, _ type: Value.Type) -> Value {
        withUnsafeBytes { Value(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }
}
