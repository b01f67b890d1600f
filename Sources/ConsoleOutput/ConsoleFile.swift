import Concurrency
import Errors
import Glibc
import Linux

/// What a machine has written to its serial port: a file that QEMU appends to.
///
/// Offsets in it never change. What has been read is released (``SparseFile``), so that the file takes no room for it.
final class ConsoleFile: Sendable {
    enum Piece: Sendable, Equatable {
        case bytes([UInt8])
        /// So many bytes are there no longer.
        case released(UInt64)
        /// Nothing follows yet.
        case end
    }

    /// Bytes before what is read that are kept, for who attaches, and for who reads more slowly than the log is written.
    static let kept: UInt64 = 1 << 20
    /// What is released at once.
    static let step: UInt64 = 256 << 10
    private static let pieceLimit = 64 << 10
    /// Threads of all consoles: files on the node's disk, a moment each.
    private static let pool = BlockingPool("console files", threads: 64)

    private let path: String
    private let descriptor: Int32

    private init(path: String) throws {
        self.path = path
        // A descriptor for reading only could release nothing.
        descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else {
            guard errno == ENOENT else { throw SwiftletError.system("open the console \(path)") }
            throw SwiftletError(.notFound, "there is no console \(path) yet")
        }
        do { _ = try SparseFile.size(descriptor) } catch {
            close(descriptor)
            throw SwiftletError(.failedPrecondition, "the console \(path) cannot be read", cause: error)
        }
    }

    deinit { close(descriptor) }

    /// - Throws: `.notFound` for a file that is not there yet.
    static func open(_ path: String) async throws -> ConsoleFile {
        try await pool.run("open \(path)") { _ in try ConsoleFile(path: path) }
    }

    /// Where this open file is watched, whatever becomes of its name.
    var watchedPath: String { "/proc/self/fd/\(descriptor)" }

    func length() async throws -> UInt64 {
        try await Self.pool.run("look at \(path)") { [self] _ in try SparseFile.size(descriptor).length }
    }

    /// What is at the offset.
    func piece(at offset: UInt64) async throws -> Piece {
        try await Self.pool.run("read \(path)") { [self] _ in try pieceNow(at: offset) }
    }

    private func pieceNow(at offset: UInt64) throws -> Piece {
        let length = try SparseFile.size(descriptor).length
        guard offset < length else { return .end }
        guard let data = SparseFile.data(descriptor, from: offset) else { return .released(length - offset) }
        guard data <= offset else { return .released(min(data, length) - offset) }
        let bytes = try [UInt8](unsafeUninitializedCapacity: Self.pieceLimit) { buffer, count in
            let read = pread(descriptor, buffer.baseAddress, buffer.count, off_t(offset))
            guard read >= 0 else { throw SwiftletError.system("read the console \(path)") }
            count = read
        }
        // What another process has released meanwhile reads as zeros. Nothing that was released comes back: what is there now was then.
        let hole = SparseFile.hole(descriptor, from: offset)
        guard hole < offset + UInt64(bytes.count) else { return .bytes(bytes) }
        guard hole <= offset else { return .bytes(Array(bytes.prefix(Int(hole - offset)))) }
        return try pieceNow(at: offset)
    }

    /// Releases what lies so far before `offset` that nobody needs it.
    ///
    /// - Parameter start: the answer of the call before.
    /// - Returns: what is released now.
    func release(before offset: UInt64, from start: UInt64) async throws -> UInt64 {
        guard offset > Self.kept, offset - Self.kept >= start + Self.step else { return start }
        return try await Self.pool.run("release \(path)") { [self] _ in
            try SparseFile.release(descriptor, from: start, to: offset - Self.kept)
        }
    }
}
