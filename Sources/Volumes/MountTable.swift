import Errors
import Glibc
import Linux

/// The mounts of this process's namespace, from /proc/self/mountinfo (proc(5)).
struct MountTable {
    struct Entry: Equatable {
        var id: Int
        /// "major:minor" of the filesystem.
        var device: String
        /// The part of the filesystem that is mounted.
        var root: String
        var mountPoint: String
        /// In a peer group, and so passing mounts on.
        var isShared: Bool
        /// Receives the mounts of a peer group.
        var isSlave: Bool
        var filesystem: String
    }

    var entries: [Entry]

    static func current() throws(SwiftletError) -> MountTable {
        let descriptor = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system("open /proc/self/mountinfo") }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .system("read /proc/self/mountinfo") }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return MountTable(text: bytes)
    }

    init(text: [UInt8]) {
        entries = text.split(separator: UInt8(ascii: "\n")).compactMap(Self.entry)
    }

    private static func entry(_ line: ArraySlice<UInt8>) -> Entry? {
        let fields = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count > 6, let id = Int(fields[0]), let separator = fields[6...].firstIndex(of: "-"), separator + 1 < fields.count
        else { return nil }
        let tags = fields[6..<separator]
        return Entry(
            id: id, device: fields[2], root: unescaped(fields[3]), mountPoint: unescaped(fields[4]),
            isShared: tags.contains { $0.hasPrefix("shared:") }, isSlave: tags.contains { $0.hasPrefix("master:") },
            filesystem: fields[separator + 1])
    }

    /// Blanks, tabs, line ends and backslashes stand as three octal digits behind a backslash.
    private static func unescaped(_ field: String) -> String {
        guard field.utf8.contains(UInt8(ascii: "\\")) else { return field }
        var output: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\"), let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8) else {
                output.append(byte)
                continue
            }
            output.append(code)
            rest = rest.dropFirst(3)
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// The mount that an open file lies on, by the id that /proc/self/fdinfo tells.
    func mount(of descriptor: Int32) -> Entry? {
        guard let bytes = ProcessTable.contents("/proc/self/fdinfo/\(descriptor)", limit: 4096) else { return nil }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix("mnt_id:") {
            guard let id = Int(line.dropFirst(7).filter { !$0.isWhitespace }) else { return nil }
            return entries.first { $0.id == id }
        }
        return nil
    }
}
