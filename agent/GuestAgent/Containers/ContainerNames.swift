import Errors

/// Longest path that the kernel takes, with its NUL (limits.h, PATH_MAX).
private let longestPath = 4096

/// - Parameter isSecret: `text` may be one: the error does not quote it.
/// - Throws: `.invalidArgument` when `text` holds NUL or is longer than `limit` bytes.
func requireText(
    _ text: String, _ what: @autoclosure () -> String, limit: Int, isSecret: Bool = false
) throws(SwiftletError) {
    let hasNUL = text.utf8.contains(0)
    guard hasNUL || text.utf8.count > limit else { return }
    let name = isSecret ? what() : "\(what()) \(quoted(text))"
    throw SwiftletError(.invalidArgument, hasNUL ? "\(name) holds a NUL" : "\(name) is longer than \(limit) bytes")
}

/// The shortest spelling of an absolute path: no ".", no "..", no doubled or trailing slash.
/// - Throws: `.invalidArgument` for relative, empty and overlong paths and for NUL.
func containerPath(_ path: String, _ what: String) throws(SwiftletError) -> String {
    try requireText(path, what, limit: longestPath - 1)
    guard path.utf8.first == UInt8(ascii: "/") else {
        throw SwiftletError(.invalidArgument, "\(what) \"\(printable(path))\" is not absolute")
    }
    var parts: [Substring] = []
    for part in path.split(separator: "/") where part != "." {
        if part == ".." { _ = parts.popLast() } else { parts.append(part) }
    }
    return "/" + parts.joined(separator: "/")
}

/// Letters, digits, ".", "_" and "-", beginning with a letter or digit.
func isPlainWord(_ text: String, limit: Int) -> Bool {
    let bytes = text.utf8
    guard let first = bytes.first, bytes.count <= limit, isAlphanumeric(first) else { return false }
    return bytes.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-") }
}

private func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
    default: false
    }
}

/// - Throws: `.invalidArgument` unless `id` can be the name of a directory and of a cgroup.
func requireContainerID(_ id: String) throws(SwiftletError) {
    guard isPlainWord(id, limit: 128) else {
        throw SwiftletError(
            .invalidArgument,
            "container id \"\(printable(id))\" must be 1 to 128 letters, digits, '.', '_' or '-', beginning with one of the first two")
    }
}
