extension DefaultSystemCalls {
    /// What becomes of some calls.
    public struct Rule: Sendable, Equatable {
        public var names: [String]
        /// Else they fail with ENOSYS, as if the kernel did not have them.
        public var isAllowed = true
        /// Of calls for which the rule holds; nil: all.
        public var argument: Argument?
    }

    /// An argument of a system call that has a value, or some bits of one.
    public struct Argument: Sendable, Equatable {
        /// 0 to 5.
        public var index: UInt32
        /// Nil: all of it.
        public var mask: UInt64?
        public var value: UInt64
    }

    /// The profile: a call that no rule allows fails with EPERM.
    ///
    /// - Parameter capabilities: the container's bounding set, by name.
    public static func rules(for capabilities: Set<String>) -> [Rule] {
        let held = byCapability.filter { !capabilities.isDisjoint(with: $0.capabilities) }
        return [Rule(names: always)] + conditional + held.map { Rule(names: $0.calls) }
            + (capabilities.contains("CAP_SYS_ADMIN") ? [] : namespaceRules)
    }

    /// Calls that depend on their arguments.
    private static let conditional: [Rule] = {
        // PER_LINUX, PER_LINUX32, UNAME26 with each, and the question for the current one (personality(2)).
        let personalities: [UInt64] = [0, 0x0008, 0x20000, 0x20008, 0xFFFF_FFFF]
        return personalities.map { Rule(names: ["personality"], argument: Argument(index: 0, value: $0)) }
            // Every family but AF_VSOCK (40), which leads out of a machine, and from the node into machines: one of the six low bits
            // differs. The kernel looks at the lower half of the argument only, so that a comparison of the whole could be deceived.
            + (0..<6).map { bit in
                Rule(names: ["socket"], argument: Argument(index: 0, mask: 1 << bit, value: ~40 & (1 << bit)))
            }
    }()

    /// Without CAP_SYS_ADMIN no new namespaces. clone3's flags lie in memory, where a filter cannot look: without it libraries
    /// fall back to clone.
    private static let namespaceRules: [Rule] = {
        // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h)
        let namespaces: UInt64 = 0x7E02_0000
        return [
            Rule(names: ["clone"], argument: Argument(index: 0, mask: namespaces, value: 0)), Rule(names: ["clone3"], isAllowed: false),
        ]
    }()
}
