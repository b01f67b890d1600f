import Errors
import Glibc

/// Standard output and standard error, unbuffered.
enum Terminal {
    static func output(_ text: String) { write(Array(text.utf8), to: STDOUT_FILENO) }

    static func error(_ text: String) { write(Array(text.utf8), to: STDERR_FILENO) }

    static var errorIsTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    /// Writes all of it, waiting where the reader is slow. A reader that has gone ends the output silently: SIGPIPE, or
    /// EPIPE where that is ignored.
    static func write(_ bytes: some Collection<UInt8>, to descriptor: Int32) {
        let bytes = Array(bytes)
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                sent += count
            } else if errno == EAGAIN {
                var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&ready, 1, -1)
            } else if errno != EINTR {
                return
            }
        }
    }

    /// Text from elsewhere, whole, without what could move the cursor or forge a line.
    static func printable(_ text: String) -> String {
        Errors.printable(text, limit: .max)
    }

    /// A message as one line.
    static func oneLine(_ text: String) -> String {
        Errors.oneLine(text, limit: .max)
    }
}
