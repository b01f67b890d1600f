import CLinux
import Errors
import Glibc
import Linux
import Runtime

extension VsockAddress {
    /// A non-blocking socket whose connection to the guest, or to its proxy, has begun.
    func beginConnection(port: UInt32) throws(SwiftletError) -> Int32 {
        switch self {
        case .unixProxy(let path): try Self.connect(AF_UNIX, Self.unixAddress(path), "connecting to \(path)")
        case .kernel(let cid): try Self.connect(AF_VSOCK, Self.vsockAddress(cid, port), "connecting to vsock \(cid):\(port)")
        }
    }

    private static func connect<Address>(_ family: Int32, _ address: Address, _ step: String) throws(SwiftletError) -> Int32 {
        let flags = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family, flags, 0)
        guard descriptor >= 0 else { throw .system(step) }
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
        guard result == 0 || errno == EINPROGRESS else {
            let error = SwiftletError.system(step)
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func unixAddress(_ path: String) throws(SwiftletError) -> sockaddr_un {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0) else {
            throw SwiftletError(.invalidArgument, "vsock proxy \(path): not a unix socket path of at most 107 bytes")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return address
    }

    private static func vsockAddress(_ cid: UInt32, _ port: UInt32) -> sockaddr_vm {
        var address = sockaddr_vm()
        address.svm_family = sa_family_t(AF_VSOCK)
        address.svm_cid = cid
        address.svm_port = port
        return address
    }
}
