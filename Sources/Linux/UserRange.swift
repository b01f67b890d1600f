import Errors
import Glibc

/// User ids of a node that are given to nobody but by their owner.
public struct UserRange: Sendable, Equatable {
    public let ids: ClosedRange<uid_t>

    /// Debian gives ids below to accounts and packages, and adduser none from here on (Debian Policy, section 9.2.2).
    public static let least: uid_t = 65536
    /// 2^32 - 1 means "no id" to setresuid(2) and chown(2), 2^32 - 2 is nobody to some.
    static let greatest: uid_t = 0xFFFF_FFFD
    static let mostIDs = 1 << 20

    /// - Throws: `invalidArgument` for a range that no system has room for.
    public init(first: Int, count: Int) throws(SwiftletError) {
        guard (1...Self.mostIDs).contains(count), first >= Int(Self.least), first <= Int(Self.greatest) - (count - 1) else {
            throw SwiftletError(
                .invalidArgument,
                "\(count) user ids from \(first) on: they must be 1 to \(Self.mostIDs) between \(Self.least) and \(Self.greatest)")
        }
        ids = uid_t(first)...uid_t(first + count - 1)
    }

    /// The next id after `last` that is not taken, from the beginning again after the end; nil when all are.
    public func free(after last: uid_t?, taken: Set<uid_t>) -> uid_t? {
        let start = last.map { ids.contains($0) ? $0 - ids.lowerBound + 1 : 0 } ?? 0
        // One of more ids than are taken is free: the search ends after so many.
        for step in 0..<uid_t(min(ids.count, taken.count + 1)) {
            let id = ids.lowerBound + (start + step) % uid_t(ids.count)
            if !taken.contains(id) { return id }
        }
        return nil
    }

    // MARK: Whose they are

    /// Makes sure that none of the ids is an account's, an account's subordinate one (subuid(5)), or unknown to this user namespace.
    ///
    /// - Throws: `failedPrecondition` naming the first that is.
    public func check() throws(SwiftletError) {
        func text(_ path: String) -> String { KernelFile.text(path, limit: 16 << 20) ?? "" }
        var conflict = conflict(
            passwd: text("/etc/passwd"), subordinate: text("/etc/subuid"), map: text("/proc/self/uid_map"))
        // Accounts of a directory service are not in the file. Of these, those at both ends are asked for.
        for id in [ids.lowerBound, ids.upperBound] where conflict == nil { conflict = Self.account(id).map { "\(id) is user \($0)" } }
        guard let conflict else { return }
        throw SwiftletError(.failedPrecondition, "user ids \(ids.lowerBound) to \(ids.upperBound) are not free: \(conflict)")
    }

    func conflict(passwd: String, subordinate: String, map: String) -> String? {
        for fields in Self.lines(passwd) where fields.count > 2 {
            if let id = uid_t(fields[2]), ids.contains(id) { return "\(id) is user \(quoted(fields[0]))" }
        }
        for fields in Self.lines(subordinate) where fields.count == 3 {
            guard let first = UInt64(fields[1]), let count = UInt64(fields[2]), overlaps(first, count) else { continue }
            return "\(count) from \(first) on are subordinate ids of \(quoted(fields[0])) (/etc/subuid)"
        }
        let mapped = map.split(separator: "\n").contains { line in
            let fields = line.split(separator: " ").compactMap { UInt64($0) }
            return fields.count == 3 && fields[0] <= UInt64(ids.lowerBound) && UInt64(ids.upperBound) - fields[0] < fields[2]
        }
        return mapped ? nil : "the daemon's user namespace does not have them (/proc/self/uid_map)"
    }

    private func overlaps(_ first: UInt64, _ count: UInt64) -> Bool {
        guard count > 0 else { return false }
        let (last, overflow) = first.addingReportingOverflow(count - 1)
        return first <= UInt64(ids.upperBound) && (overflow || last >= UInt64(ids.lowerBound))
    }

    private static func lines(_ text: String) -> [[String]] {
        text.split(separator: "\n").map { $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init) }
    }

    private static func account(_ id: uid_t) -> String? {
        var (entry, found) = (passwd(), UnsafeMutablePointer<passwd>?.none)
        var buffer = [CChar](repeating: 0, count: 4096)
        guard getpwuid_r(id, &entry, &buffer, buffer.count, &found) == 0, found != nil, let name = entry.pw_name else { return nil }
        return quoted(String(cString: name))
    }
}
