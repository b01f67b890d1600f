import Errors
import Glibc
import Linux

/// Small files of the guest: kernel interfaces and what the agent writes for containers.
enum Files {
    /// Names in a directory without "." and ".."; none when it cannot be read.
    static func list(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// The first `limit` bytes; nil when the file cannot be read.
    static func read(_ path: String, limit: Int) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: limit)
        var used = 0
        while used < limit {
            let count = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress?.advanced(by: used), limit - used) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            used += count
        }
        return Array(bytes[..<used])
    }

    /// The text of a small file without the white space around it.
    static func text(_ path: String, limit: Int = 64 << 10) -> String? {
        read(path, limit: limit).map { bytes in
            let isSpace = { (byte: UInt8) in byte == 0x20 || (byte >= 0x09 && byte <= 0x0d) || byte == 0 }
            var rest = bytes[...]
            while let last = rest.last, isSpace(last) { rest.removeLast() }
            while let first = rest.first, isSpace(first) { rest.removeFirst() }
            return String(decoding: rest, as: UTF8.self)
        }
    }

    /// Writes in one call, as kernel interfaces want it. Makes the file (0644) or empties it.
    static func write(_ text: String, to path: String) throws(SwiftletError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .system("opening \(path) for writing") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw .system("writing \(path)") }
    }

    /// Makes a directory (0755) that may exist, and those above it.
    static func makeDirectory(_ path: String) throws(SwiftletError) {
        var prefix = ""
        for part in path.split(separator: "/") {
            prefix += "/\(part)"
            guard mkdir(prefix, 0o755) == 0 || errno == EEXIST else { throw .system("making directory \(prefix)") }
        }
    }
}
