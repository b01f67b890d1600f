import AgentProtocol
import CContainer
import Errors

extension cc_rlimit {
    /// Names of setrlimit(2); the index is the kernel's number on every machine with the generic layout.
    private static let names = [
        "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ]

    /// - Throws: `.invalidArgument` for an unknown name or a soft limit above the hard one.
    init(_ limit: AgentRlimit) throws(SwiftletError) {
        guard let resource = Self.names.firstIndex(of: limit.type) else {
            throw SwiftletError(.invalidArgument, "unknown resource limit \"\(printable(limit.type))\": use names as in setrlimit(2)")
        }
        guard limit.soft <= limit.hard else {
            throw SwiftletError(.invalidArgument, "\(limit.type): soft limit \(limit.soft) is above the hard one \(limit.hard)")
        }
        self.init(resource: Int32(resource), soft: limit.soft, hard: limit.hard)
    }
}
