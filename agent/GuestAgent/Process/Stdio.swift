import CLinux
import Errors
import Glibc
import Linux

/// The descriptors of one process: the agent's ends and the ones it is given.
struct Stdio {
    /// What the process gets as 0, 1 and 2.
    private(set) var process: ProcessDescriptors
    /// The agent's ends; nil once they were taken.
    private var input: Int32?
    private var output: Int32?
    private var error: Int32?

    /// - Parameters:
    ///   - stdin: whether input is open; otherwise it is /dev/null (a terminal's input always exists).
    ///   - size: of the terminal; nil for pipes.
    ///   - opening: opens the terminal; where it gives none the guest's own /dev/pts does.
    init(
        stdin: Bool, terminal size: TerminalSize?, opening: () -> (master: Int32, slave: Int32)? = { nil }
    ) throws(SwiftletError) {
        process = ProcessDescriptors(stdin: -1, stdout: -1, stderr: -1, terminal: size != nil)
        do {
            if let size { try openTerminal(size, stdin, opening()) } else { try openPipes(stdin) }
        } catch {
            closeAll()
            throw error
        }
    }

    /// Gives the agent's ends to those who carry the bytes.
    mutating func connect(output carrier: ProcessOutput, input writer: ProcessInput?) throws(SwiftletError) {
        if let output = take(&self.output) { try carrier.read(stdout: output, stderr: take(&error)) }
        if let writer, let input = take(&self.input) { try writer.write(to: input) }
    }

    /// Closes the process's ends, which only the process may hold once it runs.
    mutating func closeProcessEnds() {
        for descriptor in Set([process.stdin, process.stdout, process.stderr]) where descriptor >= 0 { close(descriptor) }
        process = ProcessDescriptors(stdin: -1, stdout: -1, stderr: -1, terminal: process.terminal)
    }

    /// Closes what was not taken.
    mutating func closeAll() {
        closeProcessEnds()
        for descriptor in [take(&input), take(&output), take(&error)] { if let descriptor { close(descriptor) } }
    }

    private mutating func openPipes(_ stdin: Bool) throws(SwiftletError) {
        if stdin {
            (process.stdin, input) = try Self.pipe()
        } else {
            process.stdin = open("/dev/null", O_RDONLY | O_CLOEXEC)
            guard process.stdin >= 0 else { throw .system("opening /dev/null for standard input") }
        }
        (output, process.stdout) = try Self.outputPipe()
        (error, process.stderr) = try Self.outputPipe()
    }

    /// Larger than what Linux gives: the agent and the process take turns on the CPU as often as it is full or empty.
    private static func outputPipe() throws(SwiftletError) -> (Int32, Int32) {
        let ends = try pipe()
        _ = fcntl(ends.1, F_SETPIPE_SZ, 256 << 10)
        return ends
    }

    private mutating func openTerminal(
        _ size: TerminalSize, _ stdin: Bool, _ opened: (master: Int32, slave: Int32)?
    ) throws(SwiftletError) {
        var (master, slave) = opened ?? (-1, -1)
        guard opened != nil || clinux_open_terminal(&master, &slave) == 0 else { throw .system("opening a terminal") }
        output = master
        process = ProcessDescriptors(stdin: slave, stdout: slave, stderr: slave, terminal: true)
        _ = size.apply(to: master)
        guard stdin else { return }
        let writer = fcntl(master, F_DUPFD_CLOEXEC, 3)
        guard writer >= 0 else { throw .system("opening a terminal twice") }
        input = writer
    }

    private static func pipe() throws(SwiftletError) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe2(&ends, O_CLOEXEC) == 0 else { throw .system("making a pipe for a process") }
        return (ends[0], ends[1])
    }

    private func take(_ descriptor: inout Int32?) -> Int32? {
        defer { descriptor = nil }
        return descriptor
    }
}

/// Columns and rows of a terminal.
struct TerminalSize: Sendable {
    var width: UInt32
    var height: UInt32

    /// Does nothing for 0x0, which says that the caller knows no size. False when the kernel refuses.
    func apply(to terminal: Int32) -> Bool {
        guard width != 0 || height != 0 else { return true }
        var size = winsize(
            ws_row: UInt16(clamping: height), ws_col: UInt16(clamping: width), ws_xpixel: 0, ws_ypixel: 0)
        return ioctl(terminal, UInt(TIOCSWINSZ), &size) == 0
    }
}
