import Errors
import Glibc

/// Keeps a second daemon off the same state: it would take the first one's pods for its own.
struct DirectoryLock: Sendable {
    private let descriptor: Int32

    /// - Throws: `.failedPrecondition` when another process holds the directory.
    init(_ directory: String) async throws {
        let path = directory + "/lock"
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw SwiftletError(.failedPrecondition, "lock \(path): \(String(cString: strerror(errno)))")
        }
        let lock = descriptor
        guard await Self.acquire({ flock(lock, LOCK_EX | LOCK_NB) == 0 }) else {
            close(descriptor)
            throw SwiftletError(.failedPrecondition, "another swiftletd works in \(directory); stop it, or configure another root")
        }
    }

    /// How long a daemon waits for the one before it, which may have been killed a moment ago.
    private static let patience = Duration.seconds(5)

    /// Tries again until the one before has ended.
    static func acquire(_ lock: () -> Bool) async -> Bool {
        let end = ContinuousClock.now + patience
        while !lock() {
            guard ContinuousClock.now < end, (try? await Task.sleep(for: .milliseconds(50))) != nil else { return false }
        }
        return true
    }

    /// Lets another daemon have the directory.
    func release() {
        close(descriptor)
    }
}
