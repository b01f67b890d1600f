import CLinux
import Errors
import Glibc
import Linux

/// A packet socket on a link that gets the frames of its filter. Closed with its last reference.
final class RequestSocket: Sendable {
    let descriptor: Int32

    static let largestFrame = 2048
    /// Bytes: some frames. What comes while nobody reads is dropped there.
    private static let queue: Int32 = 32 << 10

    /// Opens it on the calling thread's network namespace.
    ///
    /// It is bound to all protocols: a socket of one protocol gets a frame only after tc's ingress, which redirects it.
    init(link name: String, _ filter: FrameFilter) throws {
        let step = "listen for DHCP on \(name)"
        guard let link = try RouteNetlink().link(named: name) else { throw SwiftletError(.notFound, "\(step): no such link") }
        // With protocol 0 it gets nothing before it is bound.
        descriptor = socket(AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SwiftletError.system(step) }
        var queue = Self.queue
        guard setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &queue, socklen_t(MemoryLayout<Int32>.size)) == 0 else {
            throw SwiftletError.system("\(step): bound its queue")
        }
        try filter.attach(to: descriptor, step)
        try Self.bind(descriptor, link.index, step)
    }

    deinit {
        if descriptor >= 0 { Glibc.close(descriptor) }
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
}
