import Errors
import Foundation
import Glibc

/// A client on the loopback, as plain descriptors.
public enum TCPClient {
    /// Listens on a port of the loopback that the kernel chooses.
    public static func listen() throws -> (descriptor: Int32, port: UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isUp = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && Glibc.listen(descriptor, 512) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        guard isUp else { throw SystemError(errno) }
        return (descriptor, UInt16(bigEndian: name.sin_port))
    }

    public static func connect(_ port: UInt16) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw SystemError(errno) }
        var time = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        return descriptor
    }

    @discardableResult public static func sendAll(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    /// Reads until the other side ends.
    public static func readAll(_ descriptor: Int32) -> [UInt8] {
        var (bytes, part) = ([UInt8](), [UInt8](repeating: 0, count: 65536))
        while true {
            let count = recv(descriptor, &part, part.count, 0)
            guard count > 0 else { return bytes }
            bytes += part[..<count]
        }
    }

    /// What comes back for bytes, when the own direction has ended behind them.
    public static func exchange(_ port: UInt16, _ bytes: [UInt8]) async throws -> [UInt8] {
        try await onThread {
            let socket = try connect(port)
            let sent = DispatchSemaphore(value: 0)
            Thread.detachNewThread {
                sendAll(socket, bytes)
                shutdown(socket, Int32(SHUT_WR))
                sent.signal()
            }
            let answer = readAll(socket)
            // The number may be another connection's as soon as it is closed.
            shutdown(socket, Int32(SHUT_RDWR))
            sent.wait()
            close(socket)
            return answer
        }
    }

    /// Runs on a thread of its own: it blocks.
    public static func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
        }
    }
}
