import Glibc

/// The log that a runtime writes of a container.
enum LogFile {
    /// Whether it has a byte: lines are written whole.
    static func hasLine(_ path: String) -> Bool {
        var information = stat()
        return stat(path, &information) == 0 && information.st_size > 0
    }
}
