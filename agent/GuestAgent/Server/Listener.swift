import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux

/// Listening sockets whose connections go to a server, one by one on the loop.
enum Listener {
    /// Listens on a vsock port of this guest. Only the host is let in, not the guest's own processes.
    static func vsock(port: UInt32, loop: EventLoop, accept: @escaping @Sendable (Int32) -> Void) throws(SwiftletError) {
        let descriptor = socket(AF_VSOCK, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw .system("opening a vsock socket") }
        var address = sockaddr_vm()
        address.svm_family = sa_family_t(AF_VSOCK)
        address.svm_cid = UInt32.max  // VMADDR_CID_ANY: also after the device was unplugged and plugged again
        address.svm_port = port
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_vm>.size)) }
        }
        guard bound == 0, listen(descriptor, 128) == 0 else { throw .system("listening on vsock port \(port)") }
        try serve(descriptor, loop: loop) { connection in
            if peerCID(connection) == AgentContract.hostCID { accept(connection) } else { close(connection) }
        }
    }

    /// Accepts on any listening, non-blocking socket for ever.
    static func serve(_ descriptor: Int32, loop: EventLoop, accept: @escaping @Sendable (Int32) -> Void) throws(SwiftletError) {
        let watch = try loop.watch(descriptor, []) { _ in
            let connection = clinux_accept4(descriptor, Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
            if connection >= 0 { accept(connection) }
        }
        loop.change(watch, descriptor: descriptor, from: [], to: .readable)
    }

    private static func peerCID(_ descriptor: Int32) -> UInt32? {
        var address = sockaddr_vm()
        var length = socklen_t(MemoryLayout<sockaddr_vm>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) }
        }
        return result == 0 ? address.svm_cid : nil
    }
}
