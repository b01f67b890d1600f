import Glibc
import Linux
import Machines

extension UserRange {
    /// Of pods whose machines are none.
    static func test(_ count: Int = 64) throws -> UserRange { try UserRange(first: 2_001_200_000, count: count) }
}

extension MachineUser {
    static let test = MachineUser(uid: getuid(), gid: getgid())
}
