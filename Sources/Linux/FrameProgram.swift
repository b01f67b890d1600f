/// What becomes of a frame that a device receives, by what it holds.
public struct FrameRule: Sendable {
    /// Bits of the four bytes at an offset.
    public struct Match: Sendable {
        /// Bytes behind the Ethernet header, a multiple of 4 from -8 to 60.
        var offset: Int
        var mask: UInt32
        var value: UInt32

        public init(at offset: Int, mask: UInt32, value: UInt32) {
            self.offset = offset
            self.mask = mask
            self.value = value & mask
        }
    }

    public enum Verdict: Sendable {
        /// Leaves by this device, untouched and before the IP stack sees it.
        case redirect(Int32)
        case drop
    }

    /// Nil: any.
    public var etherType: UInt16?
    /// All of them hold.
    public var matches: [Match]
    public var verdict: Verdict

    public init(etherType: UInt16? = nil, _ matches: [Match] = [], _ verdict: Verdict) {
        self.etherType = etherType
        self.matches = matches
        self.verdict = verdict
    }
}

/// Rules as an eBPF program for traffic control (Documentation/bpf/standardization/instruction-set.rst). The first rule that
/// matches counts; frames with a VLAN tag, and those that no rule matches, are dropped.
struct FrameProgram {
    private struct Instruction {
        var code: UInt8
        /// The destination register in the lower half, the source register in the upper one.
        var registers: UInt8
        var offset: Int16
        var immediate: Int32

        init(_ code: UInt8, to destination: UInt8 = 0, from source: UInt8 = 0, offset: Int = 0, _ immediate: Int32 = 0) {
            self.code = code
            registers = destination | source << 4
            self.offset = Int16(offset)
            self.immediate = immediate
        }
    }

    private enum Code {
        static let move: UInt8 = 0xB7  // BPF_ALU64 | BPF_MOV | BPF_K
        static let moveRegister: UInt8 = 0xBF  // BPF_ALU64 | BPF_MOV | BPF_X
        static let add: UInt8 = 0x07  // BPF_ALU64 | BPF_ADD | BPF_K
        static let and32: UInt8 = 0x54  // BPF_ALU | BPF_AND | BPF_K
        static let loadWord: UInt8 = 0x61  // BPF_LDX | BPF_MEM | BPF_W
        static let loadHalf: UInt8 = 0x69  // BPF_LDX | BPF_MEM | BPF_H
        static let store: UInt8 = 0x7A  // BPF_ST | BPF_MEM | BPF_DW
        static let jumpIfEqual: UInt8 = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
        static let jumpUnlessEqual32: UInt8 = 0x56  // BPF_JMP32 | BPF_JNE | BPF_K
        static let call: UInt8 = 0x85
        static let exit: UInt8 = 0x95
    }

    /// BPF_FUNC_redirect, BPF_FUNC_skb_load_bytes.
    private static let redirect: Int32 = 23
    private static let loadBytes: Int32 = 26
    private static let shot: Int32 = 2  // TC_ACT_SHOT
    private static let vlanPresent = 20  // __sk_buff.vlan_present
    /// The frame's beginning is copied to the stack, two bytes behind its lower end: then what follows the Ethernet header is aligned.
    private static let buffer = 80
    private static let network = 16
    /// How much of a frame is looked at; of a shorter one as much as there is, and zeros.
    private static let lengths: [Int32] = [78, 70, 62, 54, 42, 34, 14]

    private var instructions: [Instruction] = []

    init(_ rules: [FrameRule]) {
        // A jump to the end of what follows drops.
        emit(Code.moveRegister, to: 6, from: 1)
        emit(Code.loadWord, to: 2, from: 6, offset: Self.vlanPresent)
        emit(Code.jumpIfEqual, to: 2, offset: 2, 0)
        drop()
        for offset in stride(from: -Self.buffer, to: 0, by: 8) { emit(Code.store, to: 10, offset: offset, 0) }
        var loads: [Int] = []
        for length in Self.lengths {
            emit(Code.moveRegister, to: 1, from: 6)
            emit(Code.move, to: 2, 0)
            emit(Code.moveRegister, to: 3, from: 10)
            emit(Code.add, to: 3, Int32(2 - Self.buffer))
            emit(Code.move, to: 4, length)
            emit(Code.call, Self.loadBytes)
            loads.append(instructions.count)
            emit(Code.jumpIfEqual, to: 0, 0)
        }
        drop()
        for load in loads { instructions[load].offset = Int16(instructions.count - load - 1) }
        for rule in rules { add(rule) }
        drop()
    }

    private mutating func emit(_ code: UInt8, to destination: UInt8 = 0, from source: UInt8 = 0, offset: Int = 0, _ immediate: Int32 = 0) {
        instructions.append(Instruction(code, to: destination, from: source, offset: offset, immediate))
    }

    private mutating func drop() {
        emit(Code.move, to: 0, Self.shot)
        emit(Code.exit)
    }

    private mutating func add(_ rule: FrameRule) {
        var mismatches: [Int] = []
        func position(_ offset: Int) -> Int { Self.network + offset - Self.buffer }
        if let type = rule.etherType {
            emit(Code.loadHalf, to: 1, from: 10, offset: position(-2))
            mismatches.append(instructions.count)
            emit(Code.jumpUnlessEqual32, to: 1, Int32(type.bigEndian))
        }
        for match in rule.matches {
            emit(Code.loadWord, to: 1, from: 10, offset: position(match.offset))
            if match.mask != .max { emit(Code.and32, to: 1, Int32(bitPattern: match.mask.bigEndian)) }
            mismatches.append(instructions.count)
            emit(Code.jumpUnlessEqual32, to: 1, Int32(bitPattern: match.value.bigEndian))
        }
        switch rule.verdict {
        case .redirect(let target):
            emit(Code.move, to: 1, target)
            emit(Code.move, to: 2, 0)
            emit(Code.call, Self.redirect)
            emit(Code.exit)
        case .drop: drop()
        }
        for mismatch in mismatches { instructions[mismatch].offset = Int16(instructions.count - mismatch - 1) }
    }

    /// Eight bytes each.
    var count: Int { instructions.count }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        instructions.withUnsafeBytes(body)
    }
}
