import CLinux
import Errors
import Glibc
import Linux

/// A packet socket on a tap that gets a guest's DHCP requests and nothing else.
struct RequestSocket: Sendable {
    let descriptor: Int32

    /// Opens it on the calling thread's network namespace.
    ///
    /// It is bound to all protocols: a socket of one protocol gets a frame only after tc's ingress, which redirects it.
    init(tap: String) throws {
        let step = "listen for DHCP on \(tap)"
        guard let link = try RouteNetlink().link(named: tap) else { throw SwiftletError(.notFound, "\(step): no such link") }
        // With protocol 0 it gets nothing before it is bound.
        descriptor = socket(AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SwiftletError.system(step) }
        do {
            try Self.filter(descriptor, step)
            try Self.bind(descriptor, link.index, step)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    /// struct sock_filter of linux/filter.h.
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

    /// All of a tenant's traffic passes the tap: the kernel drops what is no UDP to port 67, and what goes to the guest.
    private static func filter(_ descriptor: Int32, _ step: String) throws {
        var instructions: [Instruction] = [
            Instruction(code: 0x20, operand: 0xFFFF_F004),  // ld  packet's type (SKF_AD_OFF + SKF_AD_PKTTYPE)
            Instruction(code: 0x15, ifTrue: 10, operand: 4),  // jeq PACKET_OUTGOING: drop
            Instruction(code: 0x28, operand: 12),  // ldh EtherType
            Instruction(code: 0x15, ifFalse: 8, operand: 0x0800),
            Instruction(code: 0x30, operand: 23),  // ldb protocol
            Instruction(code: 0x15, ifFalse: 6, operand: 17),
            Instruction(code: 0x28, operand: 20),  // ldh fragment offset
            Instruction(code: 0x45, ifTrue: 4, operand: 0x1FFF),
            Instruction(code: 0xB1, operand: 14),  // ldx IPv4 header's length
            Instruction(code: 0x48, operand: 16),  // ldh destination port
            Instruction(code: 0x15, ifFalse: 1, operand: 67),
            Instruction(code: 0x06, operand: UInt32(RequestSocket.largestFrame)),  // ret
            Instruction(code: 0x06, operand: 0),
        ]
        let failure = instructions.withUnsafeMutableBufferPointer { buffer in
            var program = Program(length: UInt16(buffer.count), instructions: buffer.baseAddress)
            // SO_ATTACH_FILTER.
            return setsockopt(descriptor, SOL_SOCKET, 26, &program, socklen_t(MemoryLayout<Program>.size))
        }
        guard failure == 0 else { throw SwiftletError.system("\(step): attach the filter") }
    }

    private static func bind(_ descriptor: Int32, _ link: Int32, _ step: String) throws {
        // struct sockaddr_ll (packet(7)): family, protocol (ETH_P_ALL, in network order), index of the link.
        var address = [UInt8](repeating: 0, count: 20)
        withUnsafeBytes(of: UInt16(AF_PACKET)) { address.replaceSubrange(0..<2, with: $0) }
        address.replaceSubrange(2..<4, with: [0, 3])
        withUnsafeBytes(of: link) { address.replaceSubrange(4..<8, with: $0) }
        let failure = address.withUnsafeBytes { bytes in
            bytes.withMemoryRebound(to: sockaddr.self) { Glibc.bind(descriptor, $0.baseAddress, socklen_t(bytes.count)) }
        }
        guard failure == 0 else { throw SwiftletError.system("\(step): bind") }
    }

    static let largestFrame = 2048

    /// A frame; nil where there is none.
    func read() throws -> [UInt8]? {
        while true {
            var length = 0
            let frame = [UInt8](unsafeUninitializedCapacity: Self.largestFrame) { buffer, count in
                length = recv(descriptor, buffer.baseAddress, buffer.count, 0)
                count = max(0, length)
            }
            if length >= 0 { return frame }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            default: throw SwiftletError.system("read a DHCP request")
            }
        }
    }

    /// A frame that cannot be sent is lost, as frames are: the client asks again.
    func send(_ frame: [UInt8]) {
        _ = frame.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT)) }
    }

    func close() { _ = Glibc.close(descriptor) }
}
