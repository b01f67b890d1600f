import Errors
import Foundation

/// A socket that a service manager listens on (sd_listen_fds(3)): whoever connects to it has this process started.
enum SocketActivation {
    /// SD_LISTEN_FDS_START
    private static let first: Int32 = 3

    /// The control socket; nil where this process is to make it. Asked for before anything else is opened.
    ///
    /// - Throws: `.invalidArgument` for more sockets than one, and for a descriptor that is no listening socket.
    static func descriptor(_ environment: [String: String] = ProcessInfo.processInfo.environment) throws -> Int32? {
        guard environment["LISTEN_PID"] == "\(getpid())", let count = environment["LISTEN_FDS"], count != "0" else { return nil }
        guard count == "1" else { throw SwiftletError(.invalidArgument, "LISTEN_FDS=\(count): one control socket is served") }
        var (isListening, length): (Int32, socklen_t) = (0, socklen_t(MemoryLayout<Int32>.size))
        guard getsockopt(first, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) == 0, isListening != 0 else {
            throw SwiftletError(.invalidArgument, "LISTEN_FDS=1: descriptor \(first) is no listening socket")
        }
        return first
    }
}
