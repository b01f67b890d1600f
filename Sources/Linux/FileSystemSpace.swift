import Errors
import Glibc

/// The room that a file system has (statvfs(3)).
public struct FileSystemSpace: Sendable, Equatable {
    /// Tells file systems apart.
    public struct ID: Sendable, Hashable {
        public var device: UInt64

        public init(device: UInt64) { self.device = device }
    }

    public var id: ID
    /// Bytes that an unprivileged process can still write: QEMU is one.
    public var available: UInt64

    public init(id: ID, available: UInt64) {
        self.id = id
        self.available = available
    }

    /// Asks the file system that holds `path`. Blocks, and on a network file system perhaps for long.
    public init(of path: String) throws {
        var (file, system) = (stat(), statvfs())
        guard stat(path, &file) == 0, statvfs(path, &system) == 0 else { throw SwiftletError.system("ask for the room of \(path)") }
        id = ID(device: UInt64(file.st_dev))
        available = UInt64(system.f_bavail).multipliedReportingOverflow(by: UInt64(system.f_frsize)).partialValue
    }
}
