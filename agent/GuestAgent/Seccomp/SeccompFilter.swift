import CContainer

/// A compiled seccomp program, ready to be loaded.
struct SeccompFilter: Sendable, Equatable {
    /// One struct sock_filter each (linux/filter.h), in the machine's byte order.
    var instructions: [UInt64]
    /// SECCOMP_FILTER_FLAG_* of seccomp(2).
    var flags: UInt32

    /// The flat form for the C code, in `memory`.
    func flat(_ memory: CMemory) -> UnsafePointer<cc_filter>? {
        memory.value(
            cc_filter(
                instructions: memory.array(instructions), instruction_count: UInt16(clamping: instructions.count), flags: flags))
    }

    /// The program with an answer in front for system calls that were not there when `lastKnown` was the latest one: ENOSYS, as
    /// from a kernel without them, so that programs fall back to older calls instead of taking a refusal for final.
    func answeringUnknownCalls(after lastKnown: UInt32) -> SeccompFilter {
        let prelude = [
            Self.instruction(0x20, 0),  // load seccomp_data.nr
            Self.instruction(0x25, lastKnown, otherwise: 2),  // greater: go on; else to the program
            Self.instruction(0x35, Self.x32Bit, then: 1),  // x32's numbers are another matter
            Self.instruction(0x06, Self.answerENOSYS),
        ]
        return SeccompFilter(instructions: prelude + instructions, flags: flags)
    }

    /// __X32_SYSCALL_BIT
    private static let x32Bit: UInt32 = 0x4000_0000
    /// SECCOMP_RET_ERRNO | ENOSYS
    private static let answerENOSYS: UInt32 = 0x0005_0000 | 38

    private static func instruction(_ code: UInt16, _ operand: UInt32, then: UInt8 = 0, otherwise: UInt8 = 0) -> UInt64 {
        UInt64(code) | UInt64(then) << 16 | UInt64(otherwise) << 24 | UInt64(operand) << 32
    }
}
