import Errors
import Glibc

/// The terminal of standard input in raw mode: each key goes to the command as it is typed.
///
/// Its former mode comes back by ``leave()``, at exit(3), and when the process crashes. One at a time.
final class RawTerminal: Sendable {
    /// Signals that a fault in the process causes.
    private static let faults = [SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV]

    /// - Throws: where standard input is no terminal.
    init() throws {
        var mode = termios()
        guard tcgetattr(STDIN_FILENO, &mode) == 0 else { throw SwiftletError.system("read the terminal's mode") }
        TerminalMode.keep(mode)
        cfmakeraw(&mode)
        for number in Self.faults {
            signal(number) { number in
                TerminalMode.restore()
                signal(number, SIG_DFL)
                raise(number)
            }
        }
        guard tcsetattr(STDIN_FILENO, TCSADRAIN, &mode) == 0 else { throw SwiftletError.system("set the terminal to raw mode") }
    }

    func leave() {
        TerminalMode.restore()
        TerminalMode.forget()
        for number in Self.faults { signal(number, SIG_DFL) }
    }

    deinit { leave() }

    /// Nil where neither standard output nor standard input is a terminal that has a size.
    static func size() -> (width: UInt16, height: UInt16)? {
        for descriptor in [STDOUT_FILENO, STDIN_FILENO] {
            var window = winsize()
            guard ioctl(descriptor, UInt(TIOCGWINSZ), &window) == 0, window.ws_col > 0, window.ws_row > 0 else { continue }
            return (window.ws_col, window.ws_row)
        }
        return nil
    }
}

/// The mode that the terminal is to have again, where signal handlers find it.
private enum TerminalMode {
    // Written while no handler is installed that reads them, and read by what may interrupt any thread: hence no lock.
    private nonisolated(unsafe) static var kept = termios()
    private nonisolated(unsafe) static var isKept = false
    private nonisolated(unsafe) static var isRegistered = false

    static func keep(_ mode: termios) {
        (kept, isKept) = (mode, true)
        if !isRegistered { atexit { TerminalMode.restore() } }
        isRegistered = true
    }

    static func forget() { isKept = false }

    /// Calls nothing that is not async-signal-safe (signal-safety(7)).
    static func restore() {
        guard isKept else { return }
        // A process in the background would be stopped by it, and the terminal's mode is another's then.
        let group = tcgetpgrp(STDIN_FILENO)
        guard group < 0 || group == getpgrp() else { return }
        var mode = kept
        tcsetattr(STDIN_FILENO, TCSANOW, &mode)
    }
}
