import Errors

/// Who a process is to be: a number is that number, whatever the image's /etc/passwd calls by it; a name is looked up there.
public struct UserReference: Sendable, Equatable {
    public enum Identity: Sendable, Equatable {
        case id(UInt32)
        case name(String)
    }

    public var user: Identity
    /// Nil: the user's primary group.
    public var group: Identity?

    /// 2^32-1 means "unchanged" to the kernel and is nobody's id.
    public static let greatestID: UInt32 = .max - 1

    /// - Parameters:
    ///   - text: "user", "uid", "user:group" or "uid:gid", mixed as well; an empty user is root.
    ///   - field: where it was written, for the message.
    /// - Throws: `.invalidArgument` for a number out of range, and for what others take for a number: "+5", "-1", "0x10".
    public init(parsing text: String, _ field: String) throws(SwiftletError) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        user = try parts.first.map { part throws(SwiftletError) in try Self.identity(part, field) } ?? .id(0)
        if case .name("") = user { user = .id(0) }
        guard parts.count > 1, !parts[1].isEmpty else { return }
        group = try Self.identity(parts[1], field)
    }

    private static func identity(_ text: String, _ field: String) throws(SwiftletError) -> Identity {
        let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
        if !text.isEmpty, text.utf8.allSatisfy(digits.contains) {
            guard let id = UInt32(text), id <= greatestID else {
                throw SwiftletError(.invalidArgument, "\(field) \(quoted(text)) is not an id from 0 to \(greatestID)")
            }
            return .id(id)
        }
        guard text.utf8.count <= 256, !["+", "-", "0x", "0X"].contains(where: text.hasPrefix) else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(text)) is neither a name nor an id from 0 to \(greatestID)")
        }
        return .name(text)
    }
}
