import CLinux
import Errors
import Glibc

/// A listening unix socket that owns its path: made with its final mode, removed at the end.
final class ListeningSocket {
    let path: String
    private(set) var descriptor: Int32 = -1
    private var device: dev_t = 0
    private var inode: ino_t = 0

    /// sun_path without its terminating NUL (unix(7)).
    static let longestPath = 107

    /// Binds and listens. What lies at `path` is replaced if it is a socket.
    /// - Parameters:
    ///   - mode: permission bits of the socket.
    ///   - owner: who may connect beside root; nil leaves the process's user.
    /// - Throws: `invalidArgument` for a path that is too long, `alreadyExists` if something
    ///   other than a socket is there, `permissionDenied` or `internal` with the system's reason.
    init(path: String, mode: mode_t, owner: uid_t? = nil, backlog: Int32) throws(SwiftletError) {
        self.path = path
        guard !path.isEmpty, path.utf8.count <= Self.longestPath, !path.utf8.contains(0) else {
            throw SwiftletError(
                .invalidArgument, "socket path \(path) must have 1 to \(Self.longestPath) bytes: choose a shorter directory")
        }
        try Self.removeStaleSocket(path)
        descriptor = clinux_unix_socket()
        guard descriptor >= 0 else { throw Self.failure("make a socket for", path) }
        guard clinux_unix_bind(descriptor, path, mode) == 0 else { throw Self.failure("bind", path) }
        var status = stat()
        guard lstat(path, &status) == 0 else { throw Self.failure("find", path) }
        (device, inode) = (status.st_dev, status.st_ino)
        if let owner, lchown(path, owner, gid_t.max) != 0 { throw Self.failure("give user \(owner)", path) }
        guard chmod(path, mode) == 0 else { throw Self.failure("set mode \(String(mode, radix: 8)) on", path) }
        guard listen(descriptor, backlog) == 0 else { throw Self.failure("listen on", path) }
    }

    deinit {
        stopListening()
        var status = stat()
        if inode != 0, lstat(path, &status) == 0, status.st_dev == device, status.st_ino == inode { unlink(path) }
    }

    /// Takes one connection, non-blocking and close-on-exec; nil when none waits or `errno` says why not.
    func accept() -> Int32? {
        let accepted = clinux_unix_accept(descriptor)
        return accepted >= 0 ? accepted : nil
    }

    /// The user at the other end of a connection, as of its connect(2); nil when the kernel does not say.
    static func peer(of descriptor: Int32) -> uid_t? {
        var user: uid_t = 0
        return clinux_unix_peer(descriptor, &user) == 0 ? user : nil
    }

    /// Refuses further connections; the path stays until the object goes.
    func stopListening() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    private static func removeStaleSocket(_ path: String) throws(SwiftletError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw SwiftletError(.alreadyExists, "\(path) exists and is no socket: remove it or choose another path")
        }
        guard unlink(path) == 0 else { throw failure("remove the stale socket", path) }
    }

    private static func failure(_ step: String, _ path: String) -> SwiftletError {
        let code: SwiftletError.Code = errno == EACCES || errno == EPERM ? .permissionDenied : .internal
        return SwiftletError(code, "cannot \(step) \(path): \(systemErrorText())")
    }
}
