import Errors
import Glibc
import Linux

/// Small files of the guest: kernel interfaces and what the agent writes for containers.
enum Files {
    /// The text of a small file without the white space around it.
    static func text(_ path: String, limit: Int = 64 << 10) -> String? {
        KernelFile.bytes(path, limit: limit).map { bytes in
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
