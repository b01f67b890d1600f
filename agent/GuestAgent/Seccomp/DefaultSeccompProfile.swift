import AgentProtocol
import Errors
import Glibc
import Linux
import SeccompDefaults
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
    static func profile(capabilities: UInt64) -> AgentSeccompProfile {
        let held = KernelCapabilities.names.enumerated().filter { capabilities >> UInt64($0.offset) & 1 == 1 }.map(\.element)
        return .with {
            $0.defaultAction = denial(EPERM)
            $0.architectures = ["SCMP_ARCH_X86"]
            $0.rules = DefaultSystemCalls.rules(for: Set(held)).map(rule)
        }
    }

    private static func denial(_ number: Int32) -> AgentSeccompAction {
        .with {
            $0.kind = .errno
            $0.data = UInt32(number)
        }
    }

    private static func rule(_ rule: DefaultSystemCalls.Rule) -> AgentSeccompRule {
        .with {
            $0.names = rule.names
            $0.action = rule.isAllowed ? .with { $0.kind = .allow } : denial(ENOSYS)
            $0.arguments = rule.argument.map { [argument($0)] } ?? []
        }
    }

    private static func argument(_ argument: DefaultSystemCalls.Argument) -> AgentSeccompArgument {
        .with {
            $0.index = argument.index
            $0.comparison = argument.mask == nil ? .equal : .maskedEqual
            $0.value = argument.mask ?? argument.value
            $0.valueTwo = argument.mask == nil ? 0 : argument.value
        }
    }
}
