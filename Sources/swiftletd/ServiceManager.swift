import CLinux
import Glibc
import Linux

/// The notification socket of the service manager that started the daemon (sd_notify(3)).
struct ServiceManager: Sendable {
    /// A path, or the name of an abstract socket behind "@"; nil where no manager listens.
    let socket: String?

    /// Takes the socket out of the environment, which programs that the daemon starts inherit.
    ///
    /// Call it before any thread exists: setenv(3) is not thread-safe.
    static func fromEnvironment() -> ServiceManager {
        let socket = getenv("NOTIFY_SOCKET").map { String(cString: $0) }
        unsetenv("NOTIFY_SOCKET")
        return ServiceManager(socket: socket)
    }

    /// Sends a state such as "READY=1". A manager that cannot be reached misses it: nothing else depends on it.
    func notify(_ state: String) {
        guard let socket else { return }
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        var address = sockaddr_un()
        guard clinux_unix_address(&address, socket) == 0 else { return }
        if address.sun_path.0 == CChar(UInt8(ascii: "@")) { address.sun_path.0 = 0 }
        // The name of an abstract socket ends with the address, not at a NUL (unix(7)).
        let length = socklen_t(MemoryLayout<sa_family_t>.size + socket.utf8.count)
        _ = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(descriptor, state, state.utf8.count, Int32(MSG_NOSIGNAL), $0, length)
            }
        }
    }
}
