import Errors
import Glibc

/// Keeps a second daemon off the same state: it would take the first one's pods for its own.
struct DirectoryLock: Sendable {
    private let descriptor: Int32

    /// - Throws: `.failedPrecondition` when another process holds the directory.
    init(_ directory: String) throws {
        let path = directory + "/lock"
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw SwiftletError(.failedPrecondition, "lock \(path): \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw SwiftletError(.failedPrecondition, "another swiftletd works in \(directory); stop it, or configure another root")
        }
    }

    /// Lets another daemon have the directory.
    func release() {
        close(descriptor)
    }
}
