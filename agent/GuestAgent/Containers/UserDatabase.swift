import AgentProtocol
import CContainer
import Errors
import Glibc

/// A container's own /etc/passwd and /etc/group. Both belong to the tenant: bounded, and never followed out of the root.
struct UserDatabase {
    struct User: Equatable {
        var name: String
        var uid: UInt32
        var gid: UInt32
        var home: String
    }

    struct Group: Equatable {
        var name: String
        var gid: UInt32
        /// Names with commas between them.
        var members: String

        func lists(_ user: String) -> Bool {
            var rest = Substring(members).utf8
            while !rest.isEmpty {
                let member = rest.prefix { $0 != UInt8(ascii: ",") }
                if member.elementsEqual(user.utf8) { return true }
                rest = rest[member.endIndex...].dropFirst()
            }
            return false
        }
    }

    /// The files as they are: a large one, made of its lines, would take many times its size.
    private let passwd: [UInt8]
    private let group: [UInt8]

    /// Largest file that is read, in bytes: some 50,000 users.
    private static let limit = 4 << 20
    /// The kernel refuses more (limits.h, NGROUPS_MAX).
    private static let mostGroups = 65536 - 1  // and the primary group

    /// Reads the files below the directory `root`; an absent one is empty.
    /// - Throws: `.invalidArgument` when one is no regular file or too large.
    init(root: Int32) throws(SwiftletError) {
        self.init(
            passwd: try Self.content("etc/passwd", root: root),
            group: try Self.content("etc/group", root: root))
    }

    init(passwd: [UInt8], group: [UInt8]) {
        self.passwd = passwd
        self.group = group
    }

    // Small images leave out what follows the numbers, as container runtimes allow.
    private func findUser(where isWanted: (User) -> Bool) -> User? {
        Self.first(in: passwd, fields: 4) { fields in
            guard let uid = UInt32(fields[2]), let gid = UInt32(fields[3]) else { return nil }
            let user = User(name: fields[0], uid: uid, gid: gid, home: fields.count > 5 ? fields[5] : "")
            return isWanted(user) ? user : nil
        }
    }

    private func findGroup(where isWanted: (Group) -> Bool) -> Group? {
        Self.first(in: group, fields: 3) { fields in
            guard let gid = UInt32(fields[2]) else { return nil }
            let group = Group(name: fields[0], gid: gid, members: fields.count > 3 ? fields[3] : "")
            return isWanted(group) ? group : nil
        }
    }

    private func groups(of member: String) -> [UInt32] {
        var found: [UInt32] = []
        _ = findGroup { group in
            if group.lists(member) { found.append(group.gid) }
            return false
        }
        return found
    }

    /// The home directory for `uid`, "/" for a user without an entry.
    func home(of uid: UInt32) -> String {
        guard let home = findUser(where: { $0.uid == uid })?.home, home.utf8.first == UInt8(ascii: "/") else { return "/" }
        return home
    }

    /// Looks up `wanted.name` in the forms "user", "uid", "user:group" and "uid:gid", else takes the numbers as they are.
    /// Supplementary groups are the caller's and, unless they are to be strictly that, those of /etc/group that list the user.
    /// - Throws: `.invalidArgument` naming the user or group that is unknown.
    func resolve(_ wanted: AgentUser) throws(SwiftletError) -> ResolvedUser {
        let parts = wanted.name.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let userPart = parts.first ?? ""
        let groupPart = parts.count > 1 ? parts[1] : ""

        var user = ResolvedUser(uid: wanted.uid, gid: wanted.gid, additionalGIDs: [])
        let entry: User?
        if userPart.isEmpty {
            entry = findUser { $0.uid == wanted.uid }
        } else if let uid = Self.identifier(userPart) {
            // A number is that number, also where the image calls another user by it.
            entry = findUser { $0.uid == uid }
            user.uid = uid
        } else if !Self.isNumber(userPart), let named = findUser(where: { $0.name == userPart }) {
            entry = named
            user.uid = named.uid
        } else {
            throw SwiftletError(
                .invalidArgument, "user \"\(printable(userPart))\" is not in the image's /etc/passwd: name one that is, or a number")
        }
        let numbersGiveGroup = wanted.gidSet || (wanted.name.isEmpty && wanted.gid != 0)
        if !numbersGiveGroup { user.gid = try groupPart.isEmpty ? entry?.gid ?? 0 : gid(of: groupPart) }
        guard user.uid != UInt32.max, user.gid != UInt32.max else {
            throw SwiftletError(.invalidArgument, "uid and gid 4294967295 mean \"unchanged\" to the kernel and cannot be used")
        }
        var additional = Set(wanted.additionalGids)
        if let entry, !wanted.strictGroups { additional.formUnion(groups(of: entry.name)) }
        guard additional.count <= Self.mostGroups, !additional.contains(UInt32.max) else {
            throw SwiftletError(.invalidArgument, "the user has \(additional.count) supplementary groups, or one that is no group")
        }
        user.additionalGIDs = additional.sorted()
        return user
    }

    private func gid(of name: String) throws(SwiftletError) -> UInt32 {
        if let gid = Self.identifier(name) { return gid }
        if !Self.isNumber(name), let group = findGroup(where: { $0.name == name }) { return group.gid }
        throw SwiftletError(
            .invalidArgument, "group \"\(printable(name))\" is not in the image's /etc/group: name one that is, or a number")
    }

    private static func isNumber(_ text: String) -> Bool {
        text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    private static func identifier(_ text: String) -> UInt32? { isNumber(text) ? UInt32(text) : nil }

    /// The first line with as many fields that `take` takes.
    private static func first<Value>(in bytes: [UInt8], fields: Int, _ take: ([String]) -> Value?) -> Value? {
        var rest = bytes[...]
        while !rest.isEmpty {
            let line = rest.prefix { $0 != UInt8(ascii: "\n") }
            rest = rest[line.endIndex...].dropFirst()
            guard line.first != UInt8(ascii: "#") else { continue }
            let parts = line.split(separator: UInt8(ascii: ":"), maxSplits: 6, omittingEmptySubsequences: false)
            guard parts.count >= fields else { continue }
            if let value = take(parts.map { String(decoding: $0, as: UTF8.self) }) { return value }
        }
        return nil
    }

    private static func content(_ path: String, root: Int32) throws(SwiftletError) -> [UInt8] {
        // Found, looked at, then opened: opening a device or a FIFO for reading has effects.
        let descriptor = cc_find_in_root(root, path)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { return [] }
            throw .system("open the image's /\(path)")
        }
        let named = OwnedDescriptor(descriptor)
        var status = stat()
        guard fstat(named.number, &status) == 0 else { throw .system("look at the image's /\(path)") }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size <= limit else {
            throw SwiftletError(.invalidArgument, "the image's /\(path) must be a regular file of at most \(limit) bytes")
        }
        let file = try OwnedDescriptor(result: open(named.path, O_RDONLY | O_CLOEXEC | O_NOCTTY), "open the image's /\(path)")
        guard let bytes = SmallFile.read(file.number, limit: limit) else { throw .system("read the image's /\(path)") }
        return bytes
    }
}
