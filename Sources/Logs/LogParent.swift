import CLinux
import Errors
import Glibc

/// The directory that holds a log file, open, and the names of its files.
struct LogParent: ~Copyable {
    private let directory: Int32
    /// Of the log file.
    let name: String
    private let location: LogLocation

    /// - Throws: `.failedPrecondition` for a directory that is not there.
    init(_ location: LogLocation) throws {
        let slash = location.path.lastIndex(of: "/")
        directory = try Self.open(location, slash.map { String(location.path[..<$0]) })
        name = String(slash.map { location.path[location.path.index(after: $0)...] } ?? location.path[...])
        self.location = location
    }

    /// - Parameter path: below the log's directory; nil: that itself.
    private static func open(_ location: LogLocation, _ path: String?) throws -> Int32 {
        let top = Glibc.open(location.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard top >= 0 else { throw location.failure("open its directory") }
        guard let path else { return top }
        defer { close(top) }
        let directory = clinux_open_beneath(top, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        guard directory >= 0 else { throw location.failure("open its directory") }
        return directory
    }

    deinit { close(directory) }

    /// The inode of the file of this name; nil for what is no regular file.
    func inode(of name: String) -> UInt64? {
        var status = stat()
        guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return UInt64(status.st_ino)
    }

    /// Nil for what is no regular file.
    func size(of name: String) -> UInt64? {
        var status = stat()
        guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return UInt64(max(0, status.st_size))
    }

    func isEmpty(_ name: String) -> Bool {
        var status = stat()
        return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_size == 0
    }

    /// Makes a file that was not there.
    ///
    /// - Returns: its descriptor, as ``LogLocation/open()`` gives it.
    func create(_ name: String) throws(SwiftletError) -> Int32 {
        let flags = O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW
        let descriptor = clinux_open_beneath(directory, name, flags, 0o640)
        guard descriptor >= 0 else { throw location.failure("make \(name)") }
        return descriptor
    }

    func open(_ name: String) -> Int32? {
        let descriptor = clinux_open_beneath(directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
        return descriptor >= 0 ? descriptor : nil
    }

    func rename(_ old: String, to new: String) throws(SwiftletError) {
        guard renameat(directory, old, directory, new) == 0 else { throw location.failure("rename \(old) to \(new)") }
    }

    func remove(_ name: String) { unlinkat(directory, name, 0) }

    /// The log's earlier files, the oldest first.
    func rotated() -> [RotatedLogName] {
        // A descriptor of its own: closing the stream closes it, and its position is where the reading ended.
        let copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0 else { return [] }
        guard let entries = fdopendir(copy) else {
            close(copy)
            return []
        }
        defer { closedir(entries) }
        var names: [RotatedLogName] = []
        while let entry = readdir(entries) {
            let file = String(cString: clinux_entry_name(entry))
            guard file.hasPrefix(name + ".") else { continue }
            if let rotated = RotatedLogName(String(file.dropFirst(name.count + 1))) { names.append(rotated) }
        }
        return names.sorted()
    }
}
