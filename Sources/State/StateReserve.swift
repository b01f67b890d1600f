import Errors
import Foundation
import Glibc
import Linux
import Synchronization

/// Room on the state's file system that releases use when there is no other: a file that is given up piece by piece, and made whole again
/// when there is room.
///
/// Piece by piece, since others write to the same file system: a guest would fill 16 MiB faster than the retried transaction needs a page.
final class StateReserve: Sendable {
    static let size: UInt64 = 16 << 20
    static let piece: UInt64 = 2 << 20

    private let path: String
    private let isWholeNow = Mutex(false)

    init(path: String) { self.path = path }

    /// Whether all of it is there. While it is not, nothing new may be written: what is left is for releases.
    var isWhole: Bool { isWholeNow.withLock { $0 } }

    /// Bytes that others can write to the file system.
    var available: UInt64 { (try? FileSystemSpace(of: path).available) ?? 0 }

    /// Makes the reserve whole, where that leaves as much room as it takes. Blocks.
    ///
    /// - Returns: whether it is whole.
    @discardableResult
    func fill() -> Bool {
        isWholeNow.withLock { isWhole in
            if isWhole { return true }
            isWhole = (try? fillNow()) ?? false
            return isWhole
        }
    }

    private func fillNow() throws -> Bool {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw SwiftletError.system("open \(path)") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("look at \(path)") }
        // In units of 512 bytes (stat(2)), without regard to the file's size: a hole is no room.
        let held = min(UInt64(status.st_blocks) * 512, UInt64(status.st_size))
        guard held < Self.size else { return true }
        guard available >= Self.size - held + Self.size else { return false }
        let failure = posix_fallocate(descriptor, 0, off_t(Self.size))
        guard failure == 0 else {
            ftruncate(descriptor, off_t(held))
            throw SwiftletError.system("allocate \(path)", errno: failure)
        }
        return true
    }

    /// Gives one piece up. Blocks.
    ///
    /// - Returns: false when nothing is left.
    func give() -> Bool {
        isWholeNow.withLock { isWhole in
            isWhole = false
            let descriptor = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
            guard descriptor >= 0 else { return false }
            defer { close(descriptor) }
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_size > 0 else { return false }
            return ftruncate(descriptor, max(status.st_size - off_t(Self.piece), 0)) == 0
        }
    }
}
