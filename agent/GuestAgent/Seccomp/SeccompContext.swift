import AgentProtocol
import CSeccomp
import Errors
import Glibc
import Linux

/// A libseccomp filter in the making.
final class SeccompContext {
    private let context: scmp_filter_ctx

    init(_ defaultAction: UInt32) throws(SwiftletError) {
        guard let made = seccomp_init(defaultAction) else {
            throw SwiftletError(.invalidArgument, "the default action cannot be used")
        }
        context = made
        // A binary tree of numbers (seccomp_attr_set(3)): a system call passes a dozen instructions instead of hundreds.
        seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
    }

    deinit { seccomp_release(context) }

    /// Adds a further machine's numbering: "SCMP_ARCH_X86".
    func add(architecture name: String) throws(SwiftletError) {
        let prefix = "SCMP_ARCH_"
        let token = name.hasPrefix(prefix) ? seccomp_arch_resolve_name(name.dropFirst(prefix.count).lowercased()) : 0
        guard token != 0 else { throw SwiftletError(.invalidArgument, "unknown architecture \"\(printable(name))\"") }
        let result = seccomp_arch_add(context, token)
        guard result == 0 || result == -EEXIST else {
            throw .system("architecture \(printable(name)) does not go with the guest's own", errno: -result)
        }
    }

    /// The library's number of a system call; nil when it does not know the name.
    static func number(of name: String) -> Int32? {
        let number = seccomp_syscall_resolve_name(name)
        return number == __NR_SCMP_ERROR ? nil : number
    }

    /// All of `comparisons` must hold.
    func add(_ action: UInt32, _ number: Int32, _ comparisons: [scmp_arg_cmp], name: String) throws(SwiftletError) {
        let result = seccomp_rule_add_array(context, action, number, UInt32(comparisons.count), comparisons)
        // Two rules for the same call: the first one stands.
        guard result == 0 || result == -EEXIST else {
            throw SwiftletError(
                .invalidArgument, "the rule for \(printable(name)) cannot be used", cause: SystemError(-result))
        }
    }

    /// - Throws: `.invalidArgument` for an argument that no system call has.
    static func comparison(_ argument: AgentSeccompArgument) throws(SwiftletError) -> scmp_arg_cmp {
        guard argument.index <= 5 else {
            throw SwiftletError(.invalidArgument, "argument \(argument.index): system calls have arguments 0 to 5")
        }
        let operation: scmp_compare =
            switch argument.comparison {
            case .notEqual: SCMP_CMP_NE
            case .less: SCMP_CMP_LT
            case .lessOrEqual: SCMP_CMP_LE
            case .equal: SCMP_CMP_EQ
            case .greaterOrEqual: SCMP_CMP_GE
            case .greater: SCMP_CMP_GT
            case .maskedEqual: SCMP_CMP_MASKED_EQ
            case .UNRECOGNIZED(let value):
                throw SwiftletError(.invalidArgument, "comparison \(value) is unknown to this agent")
            }
        return scmp_arg_cmp(arg: argument.index, op: operation, datum_a: argument.value, datum_b: argument.valueTwo)
    }

    /// The program, one struct sock_filter a number.
    func program() throws(SwiftletError) -> [UInt64] {
        let file = try OwnedDescriptor(result: cseccomp_memory_file(), "memory for a seccomp program")
        let result = seccomp_export_bpf(context, file.number)
        guard result == 0 else { throw .system("compile a seccomp program", errno: -result) }
        // The kernel takes 4096 instructions of 8 bytes; a larger program is cut here and refused by its size.
        guard let bytes = SmallFile.read(file.number, limit: 64 << 10) else { throw .system("read a seccomp program") }
        return bytes.withUnsafeBytes { raw in
            (0..<bytes.count / 8).map { raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) }
        }
    }
}
