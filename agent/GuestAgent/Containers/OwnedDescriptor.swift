import Errors
import Glibc
import Linux

/// A file descriptor that is closed with its last reference, so that a release cannot close it under a running call.
final class OwnedDescriptor: Sendable {
    let number: Int32

    /// Takes over `number`.
    init(_ number: Int32) { self.number = number }

    deinit { close(number) }

    /// Takes over the result of a call that answers -1 on failure.
    /// - Throws: the error of the call's errno.
    convenience init(result: Int32, _ step: @autoclosure () -> String) throws(SwiftletError) {
        guard result >= 0 else {
            let number = errno
            throw .system(step(), errno: number)
        }
        self.init(result)
    }

    /// Name of the descriptor for calls that take paths only.
    var path: String { "/proc/self/fd/\(number)" }
}

/// Small files of the container, read and written whole.
enum SmallFile {
    /// Most small files are smaller.
    private static let firstRead = 4096

    /// - Throws: `.system` errors naming the file, EEXIST for one that is there.
    static func create(_ path: String, holding text: String) throws(SwiftletError) {
        let file = try OwnedDescriptor(result: open(path, O_WRONLY | O_CLOEXEC | O_CREAT | O_EXCL, 0o644), "make \(path)")
        let bytes = Array(text.utf8)
        guard Glibc.write(file.number, bytes, bytes.count) == bytes.count else { throw .system("write \(path)") }
    }

    /// Reads what is at the start of an open file, at most `limit` bytes.
    static func read(_ descriptor: Int32, limit: Int) -> [UInt8]? {
        // Grows with the file: clearing what the limits allow would cost an emulated guest tens of milliseconds.
        var bytes: [UInt8] = []
        var used = 0
        while used < limit {
            if used == bytes.count { bytes += repeatElement(0, count: min(max(used, firstRead), limit - used)) }
            let room = bytes.count - used
            let count = bytes.withUnsafeMutableBytes { buffer in
                pread(descriptor, buffer.baseAddress.map { $0 + used }, room, off_t(used))
            }
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { break }
            used += count
        }
        return Array(bytes[..<used])
    }
}

/// Makes a directory. - Returns: whether it was not there before.
@discardableResult
func makeDirectory(_ path: String, mode: mode_t = 0o755) throws(SwiftletError) -> Bool {
    if mkdir(path, mode) == 0 { return true }
    guard errno == EEXIST else { throw .system("make directory \(path)") }
    return false
}
