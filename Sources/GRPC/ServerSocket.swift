import Errors
import Glibc
import Synchronization

/// The file of a listening unix socket: made room for, given its permissions, removed at the end.
final class ServerSocket: Sendable {
    private let path: String
    /// Device and inode of the file once it is ours, so that a successor's is never removed.
    private let identity = Mutex<(device: UInt, inode: UInt)?>(nil)

    init(path: String) {
        self.path = path
    }

    /// Removes a socket file nobody listens on; refuses everything else that stands in the way.
    func clearTheWay() throws {
        guard path.utf8.count <= Endpoint.maximumPathBytes else {
            throw SwiftletError(
                .invalidArgument,
                "listening on \(path): the path has \(path.utf8.count) bytes; unix sockets allow \(Endpoint.maximumPathBytes)")
        }
        var status = stat()
        let parent = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
        guard stat(parent.isEmpty ? "/" : String(parent), &status) == 0 else {
            throw SwiftletError(
                .failedPrecondition, "listening on \(path): the directory \(parent) is not there (errno \(errno)); create it first")
        }
        guard lstat(path, &status) == 0 else {
            guard errno == ENOENT else {
                throw SwiftletError(.failedPrecondition, "listening on \(path): the path cannot be looked at (errno \(errno))")
            }
            return
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw SwiftletError(
                .failedPrecondition, "listening on \(path): a file that is not a socket is in the way; move it or choose another path")
        }
        guard try !isLive() else {
            throw SwiftletError(
                .alreadyExists, "listening on \(path): another process listens there; stop it or choose another path")
        }
        guard unlink(path) == 0 || errno == ENOENT else {
            throw SwiftletError(.failedPrecondition, "listening on \(path): the stale socket cannot be removed (errno \(errno))")
        }
    }

    /// Takes the freshly bound file over.
    func adopt(mode: mode_t) throws {
        var status = stat()
        guard chmod(path, mode) == 0, lstat(path, &status) == 0 else {
            throw SwiftletError(.unavailable, "listening on \(path): the socket's permissions cannot be set (errno \(errno))")
        }
        identity.withLock { $0 = (UInt(status.st_dev), UInt(status.st_ino)) }
    }

    /// Removes the file if it is still the one adopted.
    func remove() {
        var status = stat()
        guard let identity = identity.withLock({ $0 }), lstat(path, &status) == 0,
            identity == (UInt(status.st_dev), UInt(status.st_ino))
        else { return }
        unlink(path)
    }

    private func isLive() throws -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else {
            throw SwiftletError(.resourceExhausted, "listening on \(path): no socket to look for a listener with (errno \(errno))")
        }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        // Anything but a refusal (a full backlog: EAGAIN, no permission: EACCES) may be a listener.
        return result == 0 || (errno != ECONNREFUSED && errno != ENOENT)
    }
}
