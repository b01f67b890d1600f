import AgentProtocol
import CSeccomp
import Errors

/// Turns a profile into a program, by libseccomp.
struct SeccompCompiler {
    /// Most rules that a profile may have, and names in all of them: far beyond what the kernel's 4096 instructions hold.
    private static let mostNames = 16384
    /// The kernel's BPF_MAXINSNS.
    private static let mostInstructions = 4096

    private let conditions: SeccompConditions

    /// - Parameter capabilities: the container's bounding set, which decides about the conditions of rules.
    init(capabilities: UInt64) { conditions = SeccompConditions(capabilities: capabilities) }

    /// - Throws: `.invalidArgument` naming what is unknown or cannot be compiled.
    func compile(_ profile: AgentSeccompProfile) throws(SwiftletError) -> SeccompFilter {
        do throws(SwiftletError) {
            let standard = try SeccompAction.value(profile.defaultAction)
            let context = try SeccompContext(standard)
            for name in profile.architectures { try context.add(architecture: name) }
            guard profile.rules.reduce(0, { $0 + $1.names.count }) <= Self.mostNames else {
                throw SwiftletError(.invalidArgument, "it names more than \(Self.mostNames) system calls")
            }
            for rule in profile.rules {
                if try conditions.hold(for: rule) { try add(rule, standard, to: context) }
            }
            let filter = SeccompFilter(instructions: try context.program(), flags: try SeccompAction.flags(profile.flags))
            let restricts = SeccompAction.denies(standard)
            let complete =
                restricts ? filter.answeringUnknownCalls(after: cseccomp_last_named) : filter
            guard complete.instructions.count <= Self.mostInstructions else {
                throw SwiftletError(
                    .invalidArgument,
                    "it needs \(complete.instructions.count) instructions, the kernel takes \(Self.mostInstructions): use fewer rules")
            }
            return complete
        } catch {
            throw error.during("seccomp profile")
        }
    }

    private func add(_ rule: AgentSeccompRule, _ standard: UInt32, to context: SeccompContext) throws(SwiftletError) {
        let action = try SeccompAction.value(rule.action)
        // libseccomp refuses rules that change nothing; profiles have them.
        guard action != standard else { return }
        var comparisons: [scmp_arg_cmp] = []
        for argument in rule.arguments { comparisons.append(try SeccompContext.comparison(argument)) }
        for name in rule.names {
            guard let number = SeccompContext.number(of: name) else {
                try Self.passOver(name, isStricter: SeccompAction.rank(action) < SeccompAction.rank(standard))
                continue
            }
            if Set(comparisons.map(\.arg)).count == comparisons.count {
                try context.add(action, number, comparisons, name: name)
            } else {
                // libseccomp joins by "and", which two values of one argument can never fulfil: such rules mean "or".
                for comparison in comparisons { try context.add(action, number, [comparison], name: name) }
            }
        }
    }

    /// An unknown name weakens nothing where the rule would have allowed more; a mistyped prohibition must not go unnoticed.
    private static func passOver(_ name: String, isStricter: Bool) throws(SwiftletError) {
        guard isStricter, !LaterSystemCalls.names.contains(name) else { return }
        throw SwiftletError(
            .invalidArgument, "unknown system call \"\(printable(name))\" in a rule that denies: correct the name or remove it")
    }
}
