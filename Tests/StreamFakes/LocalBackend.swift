import CLinux
import Errors
import Foundation
import Glibc
import NIOCore
import StreamServer
import Synchronization

/// A node without guests: exec runs processes of this machine, attach joins `cat`-like ones, ports are this machine's loopback.
package final class LocalBackend: StreamBackend {
    private let state = Mutex(State())

    private struct State {
        var sessions: [LocalProcess] = []
        var sizes: [TerminalSize?] = []
        var connections: [LocalConnection] = []
    }

    /// Every process that was started, in order.
    package var sessions: [LocalProcess] { state.withLock { $0.sessions } }
    /// The size that each was started with.
    package var firstSizes: [TerminalSize?] { state.withLock { $0.sizes } }
    /// Every connection to a port, in order.
    package var connections: [LocalConnection] { state.withLock { $0.connections } }
    /// What attach runs.
    package let attached: [String]

    package init(attached: [String] = ["/bin/sh", "-c", "echo ready; cat"]) { self.attached = attached }

    package func exec(_ request: ExecRequest, size: TerminalSize?) async throws -> any ProcessSession {
        try start(request.command, request.streams, size)
    }

    package func attach(_ request: AttachRequest, size: TerminalSize?) async throws -> any ProcessSession {
        try start(attached, request.streams, size)
    }

    private func start(_ command: [String], _ streams: StreamSet, _ size: TerminalSize?) throws -> any ProcessSession {
        let process = try LocalProcess(command, streams, size)
        state.withLock {
            $0.sessions.append(process)
            $0.sizes.append(size)
        }
        return process
    }

    package func connect(_ request: PortForwardRequest, port: UInt16) async throws -> any PortConnection {
        let connection = try LocalConnection(port: port)
        state.withLock { $0.connections.append(connection) }
        return connection
    }
}

/// A descriptor that is read or written by threads, until its session ends.
package final class LocalDescriptor: ByteSource, ByteSink {
    /// -1 when it is closed.
    private let descriptor: Mutex<Int32>
    private let isSocket: Bool
    private let wake: Int32

    /// - Parameter wake: readable when the session is over: reads end then when nothing is left, and writes fail.
    package init(_ descriptor: Int32, wake: Int32, isSocket: Bool = false) {
        self.descriptor = Mutex(descriptor)
        (self.wake, self.isSocket) = (wake, isSocket)
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    deinit { close(fd: descriptor.withLock { $0 }) }

    private func close(fd: Int32) { if fd >= 0 { Glibc.close(fd) } }

    package func read() async throws -> ByteBuffer? {
        try await onThread { [self] in
            let number = descriptor.withLock { $0 }
            var buffer = ByteBufferAllocator().buffer(capacity: 65536)
            while true {
                var count = 0
                buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 65536) {
                    count = Glibc.read(number, $0.baseAddress, 65536)
                    return max(count, 0)
                }
                if count > 0 { return buffer }
                // EOF, and EIO of a terminal without processes.
                guard count < 0, errno == EAGAIN, isReady(number, Int16(POLLIN)) else { return nil }
            }
        }
    }

    package func write(_ bytes: ByteBuffer) async throws {
        try await onThread { [self] in
            let number = descriptor.withLock { $0 }
            var rest = bytes
            while rest.readableBytes > 0 {
                var count = 0
                rest.readWithUnsafeReadableBytes {
                    count =
                        isSocket
                        ? send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) : Glibc.write(number, $0.baseAddress, $0.count)
                    return max(count, 0)
                }
                guard count < 0 else { continue }
                let failure = errno
                guard failure == EAGAIN, isReady(number, Int16(POLLOUT)) else { throw SystemError(failure) }
            }
        }
    }

    package func close() async {
        descriptor.withLock { number in
            if isSocket {
                shutdown(number, Int32(SHUT_WR))
            } else {
                close(fd: number)
                number = -1
            }
        }
    }

    /// - Returns: false when the session is over and the descriptor has nothing.
    private func isReady(_ number: Int32, _ events: Int16) -> Bool {
        var set = [pollfd(fd: number, events: events, revents: 0), pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
        while poll(&set, 2, -1) < 0, errno == EINTR {}
        return set[0].revents != 0
    }

    private func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
        }
    }
}

package final class LocalProcess: ProcessSession {
    package let stdin: (any ByteSink)?
    package let stdout: (any ByteSource)?
    package let stderr: (any ByteSource)?
    package let pid: pid_t
    private let terminal: Int32
    private let wake: Int32
    private let ending: Task<Int32, Never>
    package let hasEnded = Mutex(false)

    package init(_ command: [String], _ streams: StreamSet, _ size: TerminalSize?) throws {
        signal(SIGPIPE, SIG_IGN)
        wake = eventfd(0, Int32(EFD_CLOEXEC))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var own: [Int32] = [-1, -1, -1]
        var child: [Int32] = []
        let terminal = streams.tty ? posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC) : -1
        self.terminal = terminal
        if streams.tty {
            grantpt(terminal)
            unlockpt(terminal)
            if let size { Self.resize(terminal, size) }
            let name = String(cString: ptsname(terminal))
            for number in Int32(0)...2 { posix_spawn_file_actions_addopen(&actions, number, name, O_RDWR, 0) }
            own = [0, 1].map { _ in fcntl(terminal, F_DUPFD_CLOEXEC, 0) } + [-1]
        } else {
            for (number, isWanted) in [streams.stdin, streams.stdout, streams.stderr].enumerated() {
                guard isWanted else {
                    posix_spawn_file_actions_addopen(&actions, Int32(number), "/dev/null", O_RDWR, 0)
                    continue
                }
                var pair: [Int32] = [0, 0]
                pipe2(&pair, O_CLOEXEC)
                let (mine, its) = number == 0 ? (pair[1], pair[0]) : (pair[0], pair[1])
                own[number] = mine
                child.append(its)
                posix_spawn_file_actions_adddup2(&actions, its, Int32(number))
            }
        }
        _ = clinux_spawn_close_from(&actions, 3)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        // What blocks signals in the thread that spawns is not the process's business.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(0x88))  // POSIX_SPAWN_SETSID, POSIX_SPAWN_SETSIGMASK
        var started: pid_t = 0
        let arguments = command.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let result = posix_spawnp(&started, command.first ?? "", &actions, &attributes, arguments, Glibc.environ)
        for descriptor in child { Glibc.close(descriptor) }
        guard result == 0 else {
            for descriptor in own + [wake, terminal] where descriptor >= 0 { Glibc.close(descriptor) }
            throw SwiftletError(.notFound, "\(command.first ?? "") cannot be executed", cause: SystemError(result))
        }
        pid = started
        let (process, wake) = (started, wake)
        stdin = streams.stdin ? LocalDescriptor(own[0], wake: wake) : nil
        stdout = streams.stdout ? LocalDescriptor(own[1], wake: wake) : nil
        stderr = streams.stderr && !streams.tty ? LocalDescriptor(own[2], wake: wake) : nil
        if streams.tty {
            for (index, isWanted) in [streams.stdin, streams.stdout].enumerated() where !isWanted { Glibc.close(own[index]) }
        }
        ending = Task {
            await withCheckedContinuation { continuation in
                Thread.detachNewThread {
                    var status: Int32 = 0
                    while waitpid(process, &status, 0) < 0, errno == EINTR {}
                    // Children that hold the outputs open do not hold the session.
                    usleep(200_000)
                    eventfd_write(wake, 1)
                    continuation.resume(returning: status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F)
                }
            }
        }
    }

    deinit {
        Glibc.close(wake)
        if terminal >= 0 { Glibc.close(terminal) }
    }

    private static func resize(_ terminal: Int32, _ size: TerminalSize) {
        var window = winsize(ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(terminal, UInt(TIOCSWINSZ), &window)
    }

    package func resize(_ size: TerminalSize) async { Self.resize(terminal, size) }

    package func wait() async throws -> Int32 { await ending.value }

    package func end() async {
        let isFirst = hasEnded.withLock { ended in
            defer { ended = true }
            return !ended
        }
        precondition(isFirst, "a session ends once")
        kill(-pid, SIGKILL)
        eventfd_write(wake, 1)
    }
}

package final class LocalConnection: PortConnection {
    package let input: any ByteSink
    package let output: any ByteSource
    package let hasEnded = Mutex(false)
    private let wake: Int32
    private let descriptor: LocalDescriptor

    package init(port: UInt16) throws {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else {
            let failure = SystemError(errno)
            close(number)
            throw SwiftletError(failure.code, "connect", cause: failure)
        }
        wake = eventfd(0, Int32(EFD_CLOEXEC))
        descriptor = LocalDescriptor(number, wake: wake, isSocket: true)
        (input, output) = (descriptor, descriptor)
    }

    deinit { close(wake) }

    package func end() async {
        hasEnded.withLock { $0 = true }
        eventfd_write(wake, 1)
    }
}
