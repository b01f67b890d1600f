import AgentProtocol
import CSeccomp
import Errors

/// What happens to a system call, in libseccomp's numbers.
enum SeccompAction {
    /// Largest errno (the kernel's MAX_ERRNO): a higher one would look like success to a program.
    private static let highestErrno: UInt32 = 4095

    /// - Throws: `.invalidArgument` for an action unknown to this agent and for an errno out of range.
    static func value(_ action: AgentSeccompAction) throws(SwiftletError) -> UInt32 {
        switch action.kind {
        case .killProcess: return SCMP_ACT_KILL_PROCESS
        case .killThread: return SCMP_ACT_KILL_THREAD
        case .trap: return SCMP_ACT_TRAP
        case .errno:
            guard action.data <= highestErrno else {
                throw SwiftletError(.invalidArgument, "error number \(action.data) is above \(highestErrno)")
            }
            return cseccomp_errno(UInt16(action.data))
        case .trace:
            guard let message = UInt16(exactly: action.data) else {
                throw SwiftletError(.invalidArgument, "trace message \(action.data) is above 65535")
            }
            return cseccomp_trace(message)
        case .log: return SCMP_ACT_LOG
        case .allow: return SCMP_ACT_ALLOW
        case .UNRECOGNIZED(let kind): throw SwiftletError(.invalidArgument, "action \(kind) is unknown to this agent")
        }
    }

    /// Order of permissiveness, as the kernel decides between filters (seccomp(2)).
    static func rank(_ action: UInt32) -> Int {
        switch action & 0xFFFF_0000 {
        case SCMP_ACT_KILL_PROCESS: 0
        case SCMP_ACT_KILL_THREAD: 1
        case SCMP_ACT_TRAP: 2
        case cseccomp_errno(0): 3
        case cseccomp_trace(0): 4
        case SCMP_ACT_LOG: 5
        default: 6
        }
    }

    /// Whether the system call is not made.
    static func denies(_ action: UInt32) -> Bool { rank(action) < rank(cseccomp_trace(0)) }

    /// linux/seccomp.h. TSYNC has nothing to do in a process of one thread.
    private static let flags: [String: UInt32] = [
        "SECCOMP_FILTER_FLAG_TSYNC": 0, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    ]

    /// - Throws: `.invalidArgument` naming an unknown flag.
    static func flags(_ names: [String]) throws(SwiftletError) -> UInt32 {
        var value: UInt32 = 0
        for name in names {
            guard let flag = flags[name] else { throw SwiftletError(.invalidArgument, "unknown flag \"\(printable(name))\"") }
            value |= flag
        }
        return value
    }
}
