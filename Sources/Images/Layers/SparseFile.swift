import Errors
import Foundation

/// A file that grows at its end through a buffer; stretches of zeros become holes. Blocking; belongs to one thread.
final class SparseFile {
    private let descriptor: Int32
    private let path: String
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    private var filled = 0
    private var flushed: UInt64 = 0
    private var flushesUntilSpaceCheck = 0
    /// Bytes that must stay free on the file system.
    private let reserve: UInt64

    /// Bytes appended so far.
    var size: UInt64 { flushed + UInt64(filled) }

    /// - Throws: when `path` exists already or cannot be made.
    init(creating path: String, reserve: UInt64) throws {
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SwiftletError.system("create \(path)") }
        self.path = path
        self.reserve = reserve
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while !rest.isEmpty {
            let count = min(rest.count, buffer.count - filled)
            UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]).copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<count]))
            filled += count
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            if filled == buffer.count { try flush() }
        }
    }

    func append(zeros count: UInt64) throws {
        var count = count
        if count > UInt64(buffer.count) {
            try flush()
            try extend(by: count)
            return
        }
        while count > 0 {
            let now = Int(min(count, UInt64(buffer.count - filled)))
            UnsafeMutableRawBufferPointer(rebasing: buffer[filled..<(filled + now)]).initializeMemory(as: UInt8.self, repeating: 0)
            filled += now
            count -= UInt64(now)
            if filled == buffer.count { try flush() }
        }
    }

    func flush() throws {
        guard filled > 0 else { return }
        if flushesUntilSpaceCheck == 0 { try checkSpace() }
        flushesUntilSpaceCheck = (flushesUntilSpaceCheck + 1) % 64
        if isZero {
            try extend(by: UInt64(filled))
        } else {
            try write(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<filled]), at: flushed)
            flushed += UInt64(filled)
        }
        filled = 0
    }

    /// Adds a hole at the end of what is flushed.
    private func extend(by count: UInt64) throws {
        guard let size = off_t(exactly: flushed + count), ftruncate(descriptor, size) == 0 else {
            throw SwiftletError.system("extend \(path)")
        }
        flushed += count
    }

    /// Writes over bytes appended earlier.
    func overwrite(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try flush()
        try write(bytes, at: offset)
    }

    /// Makes the file read-only and durable.
    func seal() throws {
        try flush()
        guard fchmod(descriptor, 0o400) == 0, fsync(descriptor) == 0 else { throw SwiftletError.system("sync \(path)") }
    }

    private var isZero: Bool {
        guard filled > 0, buffer[0] == 0, let start = UnsafeRawPointer(buffer.baseAddress) else { return false }
        return memcmp(start, start + 1, filled - 1) == 0
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < bytes.count {
            let count = pwrite(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(offset) + off_t(done))
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw SwiftletError.system("write \(path)") }
            done += count
        }
    }

    private func checkSpace() throws {
        var status = statvfs()
        guard fstatvfs(descriptor, &status) == 0 else { throw SwiftletError.system("statvfs \(path)") }
        let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
        guard free > reserve else {
            throw SwiftletError(
                .resourceExhausted, "\(path): only \(free >> 20) MiB are free on the disk; \(reserve >> 20) MiB are kept in reserve")
        }
    }
}
