import Errors
import FoundationEssentials
import Glibc
import Linux

/// Files that are replaced as a whole: a reader, also after a crash of the daemon, finds the old bytes or the new ones.
enum AtomicFile {
    /// Where the bytes stand before they take the file's place.
    static func temporary(_ path: String) -> String { path + ".new" }

    /// Writes the file and makes the directories above it.
    ///
    /// - Parameters:
    ///   - durable: whether the bytes are on the disk first, so that a loss of power cannot leave an empty file.
    ///   - step: of the error message.
    static func write(_ bytes: [UInt8], to path: String, mode: mode_t, durable: Bool = false, step: String) throws {
        let directory = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
        do {
            try FileManager.default.createDirectory(atPath: String(directory), withIntermediateDirectories: true)
        } catch {
            throw SwiftletError(.internal, step, cause: error)
        }
        let descriptor = open(temporary(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
        guard descriptor >= 0 else { throw SwiftletError.system(step) }
        defer { close(descriptor) }
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 || errno == EINTR else { throw SwiftletError.system(step) }
            written += max(0, count)
        }
        guard !durable || fsync(descriptor) == 0, rename(temporary(path), path) == 0 else { throw SwiftletError.system(step) }
    }
}
