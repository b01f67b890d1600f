import CLinux
import Errors
import Glibc
import Linux
import Runtime

/// Who a container's first process is, by the image's /etc/passwd and /etc/group. Both are the tenant's: bounded, and never followed out of
/// the root.
struct ImageUsers: Sendable {
    /// Bytes: some 50,000 users.
    private static let limit = 4 << 20

    private var passwd: [[String]]
    private var group: [[String]]

    /// Reads the files of the root that is mounted at a path; an absent one is empty. Blocks.
    init(root: String) throws {
        let directory = open(root, Int32(CLINUX_O_PATH) | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw SwiftletError.system("open the container's root \(root)") }
        defer { close(directory) }
        self.init(passwd: try Self.content("etc/passwd", directory), group: try Self.content("etc/group", directory))
    }

    init(passwd: String, group: String) {
        self.passwd = Self.lines(passwd, fields: 4)
        self.group = Self.lines(group, fields: 3)
    }

    private static func lines(_ text: String, fields: Int) -> [[String]] {
        text.split(separator: "\n").filter { !$0.hasPrefix("#") }
            .map { $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init) }.filter { $0.count >= fields }
    }

    private static func content(_ path: String, _ root: Int32) throws -> String {
        let file = clinux_open_within(root, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard file >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { return "" }
            throw SwiftletError.system("open the image's /\(path)")
        }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= limit else {
            throw SwiftletError(.invalidArgument, "the image's /\(path) must be a regular file of at most \(limit) bytes")
        }
        let bytes = try [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
            let read = pread(file, buffer.baseAddress, buffer.count, 0)
            guard read >= 0 else { throw SwiftletError.system("read the image's /\(path)") }
            count = read
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// - Throws: `.invalidArgument` naming the user or group that is unknown.
    func resolve(_ plan: ContainerPlan) throws -> ContainerUser {
        let entry: [String]?
        let uid: UInt32
        switch plan.user.user {
        case .id(let id):
            (uid, entry) = (id, passwd.first { UInt32($0[2]) == id })
        case .name(let name):
            entry = passwd.first { $0[0] == name }
            guard let found = entry.flatMap({ UInt32($0[2]) }) else {
                throw SwiftletError(
                    .invalidArgument, "user \(quoted(name)) is not in the image's /etc/passwd: name one that is, or a number")
            }
            uid = found
        }
        let gid = try plan.spec.group ?? plan.user.group.map(number) ?? entry.flatMap { UInt32($0[3]) } ?? 0
        var groups = Set(plan.spec.supplementalGroups)
        if let name = entry?[0], !plan.spec.security.strictGroups {
            for line in group where line.count > 3 && line[3].split(separator: ",").contains(Substring(name)) {
                if let id = UInt32(line[2]) { groups.insert(id) }
            }
        }
        return ContainerUser(uid: uid, gid: gid, groups: [gid] + groups.subtracting([gid]).sorted())
    }

    private func number(_ identity: UserReference.Identity) throws -> UInt32 {
        switch identity {
        case .id(let id): return id
        case .name(let name):
            guard let id = group.first(where: { $0[0] == name }).flatMap({ UInt32($0[2]) }) else {
                throw SwiftletError(
                    .invalidArgument, "group \(quoted(name)) is not in the image's /etc/group: name one that is, or a number")
            }
            return id
        }
    }
}
