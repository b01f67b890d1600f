import CLinux
import Errors
import Glibc

/// Where a log file is: a directory that the kubelet made, and a path in it.
public struct LogLocation: Sendable, Equatable {
    public var directory: String
    public var path: String

    /// - Parameters:
    ///   - directory: absolute; it must exist.
    ///   - path: relative.
    public init(directory: String, path: String) {
        self.directory = directory
        self.path = path
    }

    var description: String { "\(directory)/\(path)" }

    /// Opens the file for appending, making it if it is missing. Links and special files that somebody put in its place are
    /// refused: the log is written as root.
    func open() throws -> Int32 {
        let parent = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw failure("open its directory") }
        defer { close(parent) }
        let descriptor = clinux_open_beneath(parent, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o640)
        guard descriptor >= 0 else { throw failure("open") }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_nlink == 1 else {
            close(descriptor)
            throw SwiftletError(.failedPrecondition, "container log \(description) is not a regular file of its own")
        }
        return descriptor
    }

    /// What `errno` says of the step.
    func failure(_ step: String) -> SwiftletError {
        SwiftletError(.failedPrecondition, "container log \(description): \(step): \(String(cString: strerror(errno)))")
    }
}
