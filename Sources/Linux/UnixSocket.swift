import CLinux
import Glibc

public enum UnixSocket {
    /// Why a unix stream socket cannot be connected to; nil when somebody listens there. A connect to a unix socket
    /// does not block: a full backlog is an error (EAGAIN), which is as good as an answer.
    public static func connectFailure(path: String) -> String? {
        let descriptor = clinux_unix_socket()
        guard descriptor >= 0 else { return String(cString: strerror(errno)) }
        defer { close(descriptor) }
        let result = clinux_unix_connect(descriptor, path)
        return result == 0 || errno == EAGAIN ? nil : String(cString: strerror(errno))
    }
}
