import CLinux
import Errors
import Glibc
import Linux

/// Keeps a second daemon off the same user ids: its pods would be the same users as the first one's, and the end of one pod would be
/// the other's.
struct UserRangeLock: Sendable {
    private let descriptor: Int32

    /// One file for all daemons of the node: each locks the bytes at its ids.
    private static let file = "/run/swiftlet-users.lock"

    /// - Throws: `.failedPrecondition` when another daemon has some of the ids.
    init(_ users: UserRange) async throws {
        descriptor = open(Self.file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw SwiftletError.system("open \(Self.file)") }
        let lock = descriptor
        guard await DirectoryLock.acquire({ clinux_lock_range(lock, off_t(users.ids.lowerBound), off_t(users.ids.count)) == 0 }) else {
            close(descriptor)
            throw SwiftletError(
                .failedPrecondition,
                "another swiftletd of this node uses some of the user ids \(users.ids.lowerBound) to \(users.ids.upperBound); configure "
                    + "others by machine.pod_uid_first")
        }
    }

    func release() { close(descriptor) }
}
