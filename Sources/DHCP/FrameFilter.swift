import Errors
import Glibc

/// A classic BPF program (linux/filter.h) that says which frames a packet socket gets: all of a tenant's traffic passes it, and the kernel
/// drops what is not for the responder. Frames that leave by the device are dropped as well.
struct FrameFilter {
    /// struct sock_filter.
    private struct Instruction {
        var code: UInt16
        var ifTrue: UInt8 = 0
        var ifFalse: UInt8 = 0
        var operand: UInt32
    }

    /// struct sock_fprog.
    private struct Program {
        var length: UInt16
        var instructions: UnsafeMutablePointer<Instruction>?
    }

    /// Where to go on. Jumps lead forward.
    private enum Place: Hashable {
        case next, ipv4, ipv6, icmp6, neighbour, accept, drop
    }

    private enum Line {
        case label(Place)
        case load(UInt16, UInt32)
        case jump(UInt16, UInt32, Place, Place)
        case end(UInt32)
    }

    private enum Code {
        static let word: UInt16 = 0x20  // ld [k]
        static let half: UInt16 = 0x28
        static let byte: UInt16 = 0x30
        static let halfBehindHeader: UInt16 = 0x48  // ldh [x + k]
        static let headerLength: UInt16 = 0xB1  // ldx 4 * ([k] & 0xf)
        static let equal: UInt16 = 0x15
        static let anyBit: UInt16 = 0x45
        static let end: UInt16 = 0x06
    }

    /// SKF_AD_OFF + SKF_AD_PKTTYPE.
    private static let packetType: UInt32 = 0xFFFF_F004
    private static let outgoing: UInt32 = 4

    private let lines: [Line]

    private static let start: [Line] = [
        .load(Code.word, packetType), .jump(Code.equal, outgoing, .drop, .next),
    ]
    private static let end: [Line] = [
        .label(.accept), .end(UInt32(RequestSocket.largestFrame)), .label(.drop), .end(0),
    ]

    /// What a guest asks its servers: DHCP and DHCPv6 over UDP, router solicitations, and neighbour solicitations for `router`.
    static func requests(router: IPv6Words?) -> FrameFilter {
        FrameFilter(
            lines: start + [
                .load(Code.half, 12), .jump(Code.equal, 0x0800, .ipv4, .next), .jump(Code.equal, 0x86DD, .ipv6, .drop),
                .label(.ipv4), .load(Code.byte, 23), .jump(Code.equal, 17, .next, .drop),
                // Of fragments, the first as well has no more than a part.
                .load(Code.half, 20), .jump(Code.anyBit, 0x1FFF, .drop, .next),
                .load(Code.headerLength, 14), .load(Code.halfBehindHeader, 16), .jump(Code.equal, 67, .accept, .drop),
                .label(.ipv6), .load(Code.byte, 20), .jump(Code.equal, 58, .icmp6, .next), .jump(Code.equal, 17, .next, .drop),
                .load(Code.half, 56), .jump(Code.equal, 547, .accept, .drop),
                .label(.icmp6), .load(Code.byte, 54), .jump(Code.equal, 133, .accept, .next),
                .jump(Code.equal, 135, router == nil ? .drop : .neighbour, .drop),
                .label(.neighbour),
            ] + target(router) + end)
    }

    /// Neighbour advertisements for `gateway`, and nothing else.
    static func advertisements(of gateway: IPv6Words) -> FrameFilter {
        FrameFilter(
            lines: start + [
                .load(Code.half, 12), .jump(Code.equal, 0x86DD, .next, .drop), .load(Code.byte, 20), .jump(Code.equal, 58, .next, .drop),
                .load(Code.byte, 54), .jump(Code.equal, 136, .next, .drop),
            ] + target(gateway) + end)
    }

    /// The target of a neighbour's solicitation or advertisement.
    private static func target(_ words: IPv6Words?) -> [Line] {
        guard let words else { return [] }
        return words.values.enumerated().flatMap { index, word -> [Line] in
            [
                .load(Code.word, UInt32(62 + index * 4)),
                .jump(Code.equal, word, index == words.values.count - 1 ? .accept : .next, .drop),
            ]
        }
    }

    private var instructions: [Instruction] {
        var places: [Place: Int] = [:]
        var count = 0
        for line in lines {
            if case .label(let place) = line { places[place] = count } else { count += 1 }
        }
        var made: [Instruction] = []
        func distance(_ place: Place) -> UInt8 { place == .next ? 0 : UInt8(clamping: (places[place] ?? count) - made.count - 1) }
        for line in lines {
            switch line {
            case .label: break
            case .load(let code, let operand): made.append(Instruction(code: code, operand: operand))
            case .jump(let code, let operand, let yes, let no):
                made.append(Instruction(code: code, ifTrue: distance(yes), ifFalse: distance(no), operand: operand))
            case .end(let length): made.append(Instruction(code: Code.end, operand: length))
            }
        }
        return made
    }

    /// Replaces the socket's filter, at once.
    func attach(to descriptor: Int32, _ step: String) throws {
        var instructions = self.instructions
        let failure = instructions.withUnsafeMutableBufferPointer { buffer in
            var program = Program(length: UInt16(buffer.count), instructions: buffer.baseAddress)
            // SO_ATTACH_FILTER.
            return setsockopt(descriptor, SOL_SOCKET, 26, &program, socklen_t(MemoryLayout<Program>.size))
        }
        guard failure == 0 else { throw SwiftletError.system("\(step): attach the filter") }
    }
}
