import Errors
import Glibc
import Linux

/// Whether mounts reach a path of the node, and leave it.
struct MountPropagation: Sendable {
    var isShared: Bool
    var isSlave: Bool

    /// Bytes: some hundred for each of the mounts that the kernel allows in a namespace, 100,000 (fs.mount-max).
    private static let longest = 64 << 20

    /// Of the mount that the path lies on: the last line of /proc/self/mountinfo (proc(5)) whose mount point it is below. Blocks.
    static func of(_ path: String) throws -> MountPropagation {
        guard let resolved = realpath(path, nil) else { throw SwiftletError.system("look at \(path)") }
        defer { free(resolved) }
        return of(String(cString: resolved), in: try KernelFile.read("/proc/self/mountinfo", limit: longest))
    }

    static func of(_ path: String, in table: [UInt8]) -> MountPropagation {
        var (found, length) = (MountPropagation(isShared: false, isSlave: false), -1)
        for line in table.split(separator: UInt8(ascii: "\n")) {
            let fields = String(decoding: line, as: UTF8.self).split(separator: " ")
            guard fields.count > 6 else { continue }
            let point = unescaped(fields[4])
            guard point == "/" || path == point || path.hasPrefix(point + "/"), point.utf8.count >= length else { continue }
            let tags = fields[6...].prefix { $0 != "-" }
            length = point.utf8.count
            found = MountPropagation(
                isShared: tags.contains { $0.hasPrefix("shared:") }, isSlave: tags.contains { $0.hasPrefix("master:") })
        }
        return found
    }

    /// Blanks, tabs, line ends and backslashes stand as three octal digits behind a backslash.
    private static func unescaped(_ field: Substring) -> String {
        guard field.utf8.contains(UInt8(ascii: "\\")) else { return String(field) }
        let parts = field.split(separator: "\\", omittingEmptySubsequences: false)
        var bytes = Array(parts[0].utf8)
        for part in parts.dropFirst() {
            if let code = UInt8(part.prefix(3), radix: 8) { bytes.append(code) }
            bytes += part.utf8.dropFirst(3)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
