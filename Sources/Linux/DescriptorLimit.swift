import Errors
import Glibc

/// How many files this process may have open (RLIMIT_NOFILE, getrlimit(2)).
///
/// The soft limit of 1,024 that a process usually begins with is for programs that use select(2). Children inherit the raised one: those
/// of the daemon (QEMU, virtiofsd, CNI plugins) use poll(2) or epoll(7), and vsockd sets its own.
public struct DescriptorLimit: Sendable, Equatable {
    /// More than any node needs. Container managers give a billion, over which some children loop.
    private static let most: UInt64 = 1 << 20

    public var soft: UInt64
    public var hard: UInt64

    public init(soft: UInt64, hard: UInt64) {
        self.soft = soft
        self.hard = hard
    }

    /// - Throws: the errno.
    public static func current() throws -> DescriptorLimit {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw SwiftletError.system("getrlimit") }
        return DescriptorLimit(soft: UInt64(limit.rlim_cur), hard: UInt64(limit.rlim_max))
    }

    /// Raises the soft limit to the hard one; one that is higher than needed stays.
    ///
    /// - Returns: what holds then.
    public static func raise() throws -> DescriptorLimit {
        var limit = try current()
        limit.soft = max(limit.soft, min(limit.hard, most))
        var value = rlimit(rlim_cur: rlim_t(limit.soft), rlim_max: rlim_t(limit.hard))
        guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &value) == 0 else { throw SwiftletError.system("setrlimit") }
        return limit
    }
}
