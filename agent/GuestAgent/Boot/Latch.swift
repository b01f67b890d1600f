import CLinux
import Errors
import Glibc

/// Holds threads back until it is opened, once and for all.
final class Latch: Sendable {
    private let event = clinux_semaphore()

    init() throws(SwiftletError) {
        guard event >= 0 else { throw .system("latch: eventfd") }
    }

    deinit { close(event) }

    func open() { eventfd_write(event, 1) }

    var isOpen: Bool { poll(milliseconds: 0) > 0 }

    func wait() {
        while poll(milliseconds: -1) < 0 && errno == EINTR {}
    }

    /// - Returns: whether it was opened within so many milliseconds, which a signal may cut short.
    func wait(milliseconds: Int32) -> Bool { poll(milliseconds: milliseconds) > 0 }

    private func poll(milliseconds: Int32) -> Int32 {
        // The count is never read, so the descriptor stays readable.
        var waited = pollfd(fd: event, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&waited, 1, milliseconds)
    }
}
