import Glibc
import Linux
import SeccompDefaults

extension RuntimeSpec.Seccomp {
    /// The profile that RuntimeDefault means, in machines as well.
    ///
    /// - Parameter held: the container's capabilities.
    init(defaultFor held: Set<String>) {
        let rules = DefaultSystemCalls.rules(for: held)
        defaultAction = "SCMP_ACT_ERRNO"
        defaultErrnoRet = UInt32(EPERM)
        architectures = [Platform.current.seccompArchitecture, "SCMP_ARCH_X86"]
        // A call that several capabilities allow is named once: runtimes take no rule twice.
        let always = Set(rules.filter { $0.isAllowed && $0.argument == nil }.flatMap(\.names))
        syscalls =
            [Rule(names: always.sorted(), action: "SCMP_ACT_ALLOW")]
            + rules.filter { !$0.isAllowed || $0.argument != nil }.map { rule in
                Rule(
                    names: rule.names, action: rule.isAllowed ? "SCMP_ACT_ALLOW" : "SCMP_ACT_ERRNO",
                    errnoRet: rule.isAllowed ? nil : UInt32(ENOSYS), args: rule.argument.map { [Argument($0)] })
            }
    }
}

extension RuntimeSpec.Seccomp.Argument {
    fileprivate init(_ argument: DefaultSystemCalls.Argument) {
        (index, op) = (argument.index, argument.mask == nil ? "SCMP_CMP_EQ" : "SCMP_CMP_MASKED_EQ")
        (value, valueTwo) = argument.mask.map { ($0, argument.value) } ?? (argument.value, 0)
    }
}
