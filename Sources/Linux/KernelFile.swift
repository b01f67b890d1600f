import CLinux
import Errors
import Glibc

/// Small files, above all those of /proc, /sys and the control groups: the kernel writes them anew for each reader and takes what
/// is written to them in one call.
public enum KernelFile {
    /// The first `limit` bytes of a file.
    ///
    /// - Throws: the errno of a file that cannot be opened or read, such as ESRCH of a process that has ended meanwhile.
    public static func read(_ path: String, limit: Int) throws(SwiftletError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system("opening \(path)") }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(limit, 64 << 10))
        // A short read is not the end: the kernel hands out whole records.
        while bytes.count < limit {
            let count = Glibc.read(descriptor, &chunk, min(chunk.count, limit - bytes.count))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .system("reading \(path)") }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return bytes
    }

    /// The first `limit` bytes of a file; nil when it cannot be read.
    public static func bytes(_ path: String, limit: Int = 64 << 10) -> [UInt8]? {
        try? read(path, limit: limit)
    }

    /// The text of a file's first `limit` bytes; nil when it cannot be read.
    public static func text(_ path: String, limit: Int = 64 << 10) -> String? {
        bytes(path, limit: limit).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Writes to a file that is there, in one call.
    ///
    /// - Throws: the errno, naming the file and the text.
    public static func write(_ text: String, to path: String) throws(SwiftletError) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system("opening \(path)") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw .system("writing \(text) to \(path)") }
    }

    /// Names in a directory, without "." and "..", in no order.
    ///
    /// - Throws: the errno of a directory that cannot be opened.
    public static func names(in directory: String) throws(SwiftletError) -> [String] {
        guard let stream = opendir(directory) else { throw .system("listing \(directory)") }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = String(cString: clinux_entry_name(entry))
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
