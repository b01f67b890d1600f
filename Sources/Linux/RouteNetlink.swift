import CLinux
import Errors
import Glibc

/// A NETLINK_ROUTE socket: links, addresses, routes and traffic control of one network namespace.
///
/// The socket belongs for good to the network namespace of the thread that opened it, whatever thread uses it later.
/// Requests are answered by the kernel within the call, so nothing here waits on another party. Not Sendable: one user
/// at a time.
public final class RouteNetlink {
    let socket: Int32
    private var sequence: UInt32 = 0
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    /// Opens a socket in the calling thread's network namespace.
    public init() throws {
        socket = Glibc.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), NETLINK_ROUTE)
        guard socket >= 0 else { throw SwiftletError.system("opening a netlink socket") }
        var on: Int32 = 1
        // Gives errors a text beside the number; old kernels without it still work.
        _ = setsockopt(socket, Int32(CLINUX_SOL_NETLINK), NETLINK_EXT_ACK, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { close(socket) }

    /// Sends a request that the kernel acknowledges.
    ///
    /// - Throws: the kernel's errno with its extended text, prefixed by `step`.
    func change(_ type: Int, flags: Int32 = 0, _ body: NetlinkBody, step: @autoclosure () -> String) throws {
        _ = try exchange(type, flags: flags | NLM_F_ACK, body, step: step())
    }

    /// Asks for a list; starts over when the kernel says that it changed meanwhile (at most five times).
    func dump(_ type: Int, _ body: NetlinkBody, step: String) throws -> [NetlinkMessage] {
        for _ in 0..<5 {
            if let messages = try exchange(type, flags: Int32(NLM_F_ROOT | NLM_F_MATCH), body, step: step) { return messages }
        }
        throw SwiftletError(.aborted, "\(step): the list kept changing while it was read")
    }

    /// Asks for one object.
    func get(_ type: Int, _ body: NetlinkBody, step: String) throws -> [NetlinkMessage] {
        try exchange(type, flags: NLM_F_ACK, body, step: step) ?? []
    }

    /// One request and its answers; nil when a dump was interrupted by a change.
    private func exchange(_ type: Int, flags: Int32, _ body: NetlinkBody, step: @autoclosure () -> String) throws -> [NetlinkMessage]? {
        sequence &+= 1
        var header = nlmsghdr()
        header.nlmsg_len = UInt32(MemoryLayout<nlmsghdr>.size + body.bytes.count)
        header.nlmsg_type = UInt16(type)
        header.nlmsg_flags = UInt16(NLM_F_REQUEST | flags)
        header.nlmsg_seq = sequence
        let request = withUnsafeBytes(of: header) { Array($0) } + body.bytes
        guard retryingOnInterrupt({ send(socket, request, request.count, 0) }) == request.count else {
            throw SwiftletError.system(step())
        }

        var messages: [NetlinkMessage] = []
        var interrupted = false
        while true {
            let count = retryingOnInterrupt { recv(socket, &buffer, buffer.count, Int32(MSG_TRUNC)) }
            guard count >= 0 else { throw SwiftletError.system(step()) }
            guard count <= buffer.count else {
                throw SwiftletError(.internal, "\(step()): the kernel's answer of \(count) bytes is larger than expected")
            }
            for message in NetlinkMessage.split(buffer[..<count]) where message.sequence == sequence {
                interrupted = interrupted || Int32(message.flags) & NLM_F_DUMP_INTR != 0
                switch Int32(message.type) {
                case NLMSG_DONE: return interrupted ? nil : messages
                case NLMSG_ERROR:
                    try throwIfFailed(message, step: step())
                    return messages
                default: messages.append(message)
                }
            }
        }
    }

    private func retryingOnInterrupt(_ call: () -> Int) -> Int {
        while true {
            let result = call()
            if result >= 0 || errno != EINTR { return result }
        }
    }

    private func throwIfFailed(_ message: NetlinkMessage, step: String) throws {
        guard let failure = message.header(nlmsgerr.self), failure.error != 0 else { return }
        var step = step
        // NLM_F_ACK_TLVS: attributes follow; with NLM_F_CAPPED right after the struct, else after the echoed request.
        if Int32(message.flags) & 0x200 != 0 {
            let echoed = Int32(message.flags) & 0x100 != 0 ? 0 : Int(failure.msg.nlmsg_len) - MemoryLayout<nlmsghdr>.size
            let attributes = NetlinkAttributes(message.payload.dropFirst(MemoryLayout<nlmsgerr>.size + max(0, (echoed + 3) & ~3)))
            if let text = attributes.string(Int(NLMSGERR_ATTR_MSG.rawValue)) { step += ": " + text }
        }
        throw SwiftletError.system(step, errno: -failure.error)
    }
}
