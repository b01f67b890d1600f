import CSeccomp
import Errors
import Glibc

/// What system calls a process may make, from ``load()`` on and with all its threads (seccomp(2)). A refused one fails with EPERM.
public final class SystemCallFilter {
    /// What becomes of the calls that no rule is for.
    public enum Others: Sendable {
        /// ``allow(_:_:)`` names what is needed.
        case refused
        /// ``refuse(_:_:errno:)`` names what is not.
        case allowed
    }

    private let filter: scmp_filter_ctx

    public init(others: Others) throws {
        let action = others == .refused ? cseccomp_errno(UInt16(EPERM)) : SCMP_ACT_ALLOW
        guard let filter = seccomp_init(action) else {
            throw SwiftletError(.resourceExhausted, "make a seccomp filter: out of memory")
        }
        self.filter = filter
        // Every thread, should there be more than one.
        try Self.check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1), "TSYNC")
    }

    deinit { seccomp_release(filter) }

    /// Allows a call whose arguments hold all these comparisons. A name that this machine has no call for is passed over.
    public func allow(_ name: String, _ comparisons: [scmp_arg_cmp] = []) throws { try add(SCMP_ACT_ALLOW, name, comparisons) }

    /// Refuses a call whose arguments hold all these comparisons. A name that this machine has no call for is passed over.
    public func refuse(_ name: String, _ comparisons: [scmp_arg_cmp] = [], errno: Int32 = EPERM) throws {
        try add(cseccomp_errno(UInt16(errno)), name, comparisons)
    }

    /// From now on, for good.
    public func load() throws {
        try Self.check(seccomp_load(filter), "load")
    }

    private func add(_ action: UInt32, _ name: String, _ comparisons: [scmp_arg_cmp]) throws {
        let number = seccomp_syscall_resolve_name(name)
        guard number >= 0 else { return }
        try Self.check(seccomp_rule_add_array(filter, action, number, UInt32(comparisons.count), comparisons), name)
    }

    private static func check(_ result: Int32, _ what: String) throws {
        guard result == 0 else { throw SwiftletError(.internal, "seccomp filter: \(what): \(String(cString: strerror(-result)))") }
    }
}

extension scmp_arg_cmp {
    /// The argument of this number, from 0, has this value.
    public static func argument(_ number: UInt32, is value: Int) -> scmp_arg_cmp {
        scmp_arg_cmp(arg: number, op: SCMP_CMP_EQ, datum_a: scmp_datum_t(bitPattern: Int64(value)), datum_b: 0)
    }

    public static func argument(_ number: UInt32, isNot value: Int) -> scmp_arg_cmp {
        scmp_arg_cmp(arg: number, op: SCMP_CMP_NE, datum_a: scmp_datum_t(bitPattern: Int64(value)), datum_b: 0)
    }

    /// None of these bits is set.
    public static func argument(_ number: UInt32, hasNone bits: Int) -> scmp_arg_cmp {
        scmp_arg_cmp(arg: number, op: SCMP_CMP_MASKED_EQ, datum_a: scmp_datum_t(bitPattern: Int64(bits)), datum_b: 0)
    }

    /// All of these bits are set.
    public static func argument(_ number: UInt32, hasAll bits: Int) -> scmp_arg_cmp {
        let bits = scmp_datum_t(bitPattern: Int64(bits))
        return scmp_arg_cmp(arg: number, op: SCMP_CMP_MASKED_EQ, datum_a: bits, datum_b: bits)
    }
}
