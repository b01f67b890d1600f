import CLinux
import Errors
import Glibc

/// A service manager's end of the notification socket.
struct NotificationSocket: ~Copyable {
    private let descriptor: Int32

    /// - Parameter name: a path, or a name behind "@".
    init(_ name: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        guard descriptor >= 0, clinux_unix_address(&address, name) == 0 else { throw SwiftletError(.internal, "no socket \(name)") }
        if name.hasPrefix("@") { address.sun_path.0 = 0 }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + name.utf8.count)
        let bound = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard bound == 0 else { throw SwiftletError(.internal, "bind \(name): errno \(errno)") }
    }

    deinit { close(descriptor) }

    /// The next message; nil when none comes within the limit.
    func next(milliseconds: Int32 = 60_000) -> String? {
        var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, milliseconds) == 1 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
    }
}
