import AgentProtocol
import Errors
import Glibc
import Synchronization

/// What RuntimeDefault means: the calls that programs need, by subject, and those that come with a capability. It allows what
/// containerd's default profile allows; all others fail with EPERM.
enum DefaultSeccompProfile {
    /// Programs by bounding set. Compiling takes an emulated guest a tenth of a second, and a pod's containers mostly have the
    /// same set.
    private static let compiled = Mutex<[UInt64: SeccompFilter]>([:])
    private static let mostCompiled = 32

    /// The compiled profile. - Parameter capabilities: the container's bounding set.
    static func filter(capabilities: UInt64) throws(SwiftletError) -> SeccompFilter {
        if let known = compiled.withLock({ $0[capabilities] }) { return known }
        let filter = try SeccompCompiler(capabilities: capabilities).compile(profile(capabilities: capabilities))
        know(filter, for: capabilities)
        return filter
    }

    static func know(_ filter: SeccompFilter, for capabilities: UInt64) {
        compiled.withLock { if $0.count < mostCompiled { $0[capabilities] = filter } }
    }

    /// - Parameter capabilities: the container's bounding set.
    static func profile(capabilities: UInt64) throws(SwiftletError) -> AgentSeccompProfile {
        var profile = AgentSeccompProfile()
        profile.defaultAction = denial(EPERM)
        profile.architectures = ["SCMP_ARCH_X86"]
        profile.rules.append(allow(SystemCalls.always))
        profile.rules += conditional
        for (names, calls) in SystemCalls.byCapability {
            if try CapabilityNames.mask(names) & capabilities != 0 { profile.rules.append(allow(calls)) }
        }
        if try CapabilityNames.mask(["CAP_SYS_ADMIN"]) & capabilities == 0 { profile.rules += namespaceRules }
        return profile
    }

    /// Calls that depend on their arguments.
    private static let conditional: [AgentSeccompRule] = {
        // PER_LINUX, PER_LINUX32, UNAME26 with each, and the question for the current one (personality(2)).
        let personalities: [UInt64] = [0, 0x0008, 0x20000, 0x20008, 0xFFFF_FFFF]
        return personalities.map { allow(["personality"], [argument(0, .equal, $0)]) }
            // Every family but AF_VSOCK (40), which leads out of the machine: one of the six low bits differs. The kernel looks at
            // the lower half of the argument only, so that a comparison of the whole could be deceived.
            + (0..<6).map { bit in allow(["socket"], [argument(0, .maskedEqual, 1 << bit, ~40 & (1 << bit))]) }
    }()

    /// Without CAP_SYS_ADMIN no new namespaces. clone3's flags lie in memory, where a filter cannot look: without it libraries
    /// fall back to clone.
    private static let namespaceRules: [AgentSeccompRule] = {
        // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h)
        let namespaces: UInt64 = 0x7E02_0000
        var absent = AgentSeccompRule()
        absent.names = ["clone3"]
        absent.action = denial(ENOSYS)
        return [allow(["clone"], [argument(0, .maskedEqual, namespaces, 0)]), absent]
    }()

    private static func denial(_ number: Int32) -> AgentSeccompAction {
        .with {
            $0.kind = .errno
            $0.data = UInt32(number)
        }
    }

    private static func allow(_ names: [String], _ arguments: [AgentSeccompArgument] = []) -> AgentSeccompRule {
        .with {
            $0.names = names
            $0.action.kind = .allow
            $0.arguments = arguments
        }
    }

    private static func argument(
        _ index: UInt32, _ comparison: AgentSeccompArgument.Comparison, _ value: UInt64, _ valueTwo: UInt64 = 0
    ) -> AgentSeccompArgument {
        .with {
            $0.index = index
            $0.comparison = comparison
            $0.value = value
            $0.valueTwo = valueTwo
        }
    }
}
