import CLinux
import Errors
import Glibc
import Support

/// A service manager's end of the notification socket.
final class NotificationSocket: Sendable {
    private let descriptor: Int32

    /// - Parameter name: a path, or a name behind "@".
    init(_ name: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        var address = sockaddr_un()
        guard descriptor >= 0, clinux_unix_address(&address, name) == 0 else { throw SwiftletError(.internal, "no socket \(name)") }
        if name.hasPrefix("@") { address.sun_path.0 = 0 }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + name.utf8.count)
        let bound = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard bound == 0 else {
            close(descriptor)
            throw SwiftletError(.internal, "bind \(name): errno \(errno)")
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// The next message.
    func next() async throws -> String {
        var message: String?
        try await eventually("a notification comes") {
            var bytes = [UInt8](repeating: 0, count: 256)
            let count = recv(descriptor, &bytes, bytes.count, 0)
            if count >= 0 { message = String(decoding: bytes[..<count], as: UTF8.self) }
            return message != nil
        }
        return message ?? ""
    }
}
