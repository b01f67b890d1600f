import Errors
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

    /// Bytes: some hundred for each of the mounts that the kernel allows in a namespace, 100,000 (fs.mount-max).
    private static let longest = 64 << 20

    static func current() throws(SwiftletError) -> MountTable {
        let text = try KernelFile.read("/proc/self/mountinfo", limit: longest)
        guard text.count < longest else {
            throw SwiftletError(
                .resourceExhausted, "/proc/self/mountinfo has more than \(longest) bytes; unmount what the node does not need")
        }
        return MountTable(text: text)
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

    /// The mount that an open file lies on, by the id that /proc/self/fdinfo shows.
    func mount(of descriptor: Int32) -> Entry? {
        guard let text = KernelFile.text("/proc/self/fdinfo/\(descriptor)", limit: 4096) else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("mnt_id:") {
            guard let id = Int(line.dropFirst(7).filter { !$0.isWhitespace }) else { return nil }
            return entries.first { $0.id == id }
        }
        return nil
    }
}
