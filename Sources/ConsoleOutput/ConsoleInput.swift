import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// The consoles that somebody types at. QEMU serves one client of a serial port: each has one connection, while somebody types.
///
/// QEMU writes each byte of the guest's to a client too, by a system call of its own, which takes a guest that floods its console two to
/// three times as long, however fast the client reads. So a connection that nothing has been typed by for a while is ended when the guest
/// has taken all; what is typed next makes another.
public final class ConsoleInputs: Sendable {
    private struct Shared {
        var users: Int
        /// Nil while nobody types.
        var connection: ConsoleConnection?
        var watch: Task<Void, Never>?
    }

    private static let loop = Result { try EventLoop(name: "consoles") }

    private let shared = Mutex<[String: Shared]>([:])
    private let tags = Atomic<UInt64>(0)
    private let idle: Duration

    /// - Parameter idle: for how long nothing is typed before a connection is ended.
    public init(idle: Duration = .seconds(2)) { self.idle = idle }

    /// - Throws: `.unavailable` when the machine does not listen, or another program holds the console.
    public func join(_ socket: String) throws -> ConsoleInput {
        try shared.withLock { shared in
            // Also to find out whether the machine listens.
            if shared[socket]?.connection?.isLost ?? true { try connect(socket, &shared) }
            shared[socket]?.users += 1
        }
        return ConsoleInput(self, socket, tag: tags.wrappingAdd(1, ordering: .relaxed).newValue)
    }

    fileprivate func connection(to socket: String) throws -> ConsoleConnection {
        try shared.withLock { shared in
            guard let known = shared[socket] else { throw SwiftletError(.cancelled, "nobody types at the console any more") }
            if let connection = known.connection, !connection.isLost { return connection }
            return try connect(socket, &shared)
        }
    }

    @discardableResult
    private func connect(_ socket: String, _ shared: inout [String: Shared]) throws -> ConsoleConnection {
        let connection = try Self.connect(socket)
        var entry = shared[socket] ?? Shared(users: 0)
        entry.watch?.cancel()
        entry.connection = connection
        let idle = idle
        entry.watch = Task { [weak connection] in
            while !Task.isCancelled {
                do { try await Task.sleep(for: idle / 2) } catch { return }
                guard let connection, !connection.endIfIdle(for: idle) else { return }
            }
        }
        shared[socket] = entry
        return connection
    }

    fileprivate func leave(_ socket: String, _ tag: UInt64) {
        let (left, isLast) = shared.withLock { shared -> (ConsoleConnection?, Bool) in
            guard var known = shared[socket] else { return (nil, false) }
            known.users -= 1
            shared[socket] = known.users == 0 ? nil : known
            if known.users == 0 { known.watch?.cancel() }
            return (known.connection, known.users == 0)
        }
        left?.giveUp(tag)
        if isLast { left?.close() }
    }

    private static func connect(_ socket: String) throws -> ConsoleConnection {
        let loop = try loop.get()
        let descriptor = clinux_unix_socket()
        guard descriptor >= 0 else { throw SwiftletError.system("connect to the console") }
        guard clinux_unix_connect(descriptor, socket) == 0 else {
            let error = SwiftletError.system("connect to the console \(socket)")
            Glibc.close(descriptor)
            throw SwiftletError(
                .unavailable,
                error.systemErrno == EAGAIN ? "another program holds the console" : "the machine does not listen at its console",
                cause: error)
        }
        do {
            try requireMachine(descriptor, socket)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        return try ConsoleConnection(descriptor, loop)
    }

    /// What is typed is told to a machine alone: libvirt, which is root, makes the socket in a directory that nobody else can write to, and
    /// QEMU, which is its pod's user, listens.
    private static func requireMachine(_ descriptor: Int32, _ socket: String) throws {
        var (user, directory) = (uid_t(), stat())
        let trusted: Set = [0, geteuid()]
        guard lstat(String(socket.prefix(upTo: socket.lastIndex(of: "/") ?? socket.startIndex)), &directory) == 0,
            trusted.contains(directory.st_uid), directory.st_mode & (S_IFMT | 0o022) == S_IFDIR
        else { throw SwiftletError(.permissionDenied, "others than root can write to the directory of the console \(socket)") }
        guard clinux_unix_peer(descriptor, &user) == 0, trusted.contains(user) || user >= UserRange.least else {
            throw SwiftletError(.permissionDenied, "the console \(socket) is user \(user)'s, not its machine's")
        }
    }
}

/// One of those who type. One task writes.
public final class ConsoleInput: Sendable {
    private let inputs: ConsoleInputs
    private let socket: String
    private let tag: UInt64
    private let hasLeft = Atomic(false)

    fileprivate init(_ inputs: ConsoleInputs, _ socket: String, tag: UInt64) {
        (self.inputs, self.socket, self.tag) = (inputs, socket, tag)
    }

    /// Returns when the machine has taken all but some 64 KiB.
    ///
    /// - Throws: `.unavailable` when the connection is lost. A cancelled task does not interrupt a write that waits; ``leave()`` does.
    public func write(_ bytes: [UInt8]) async throws {
        // A connection may end for want of use right before something is typed.
        while true {
            guard !hasLeft.load(ordering: .acquiring) else { throw SwiftletError(.cancelled, "the console was left") }
            if try await inputs.connection(to: socket).write(bytes, tag) { return }
        }
    }

    /// Idempotent.
    public func leave() {
        if !hasLeft.exchange(true, ordering: .acquiringAndReleasing) { inputs.leave(socket, tag) }
    }
}

/// A connection to a serial port. What comes is read at once and dropped: the console's file has it, and a client that does not read holds
/// the guest.
final class ConsoleConnection: Sendable {
    private struct State {
        var writers: [UInt64: CheckedContinuation<Bool, any Error>] = [:]
        var gone: Set<UInt64> = []
        var isLost = false
        /// Ended because nobody typed.
        var isIdle = false
        var lastWrite = ContinuousClock.now
    }

    /// Bytes that may wait for the guest.
    private static let limit = 64 << 10

    private let channel: ByteChannel
    private let descriptor: Int32
    private let state = Mutex(State())

    fileprivate init(_ descriptor: Int32, _ loop: EventLoop) throws {
        self.descriptor = descriptor
        channel = ByteChannel(descriptor: descriptor, loop: loop)
        try channel.open(owner: self)
    }

    deinit { channel.close() }

    var isLost: Bool { state.withLock { $0.isLost } }

    /// - Returns: false when nothing was written, since the connection has ended for want of use.
    fileprivate func write(_ bytes: [UInt8], _ tag: UInt64) async throws -> Bool {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Bool, any Error>) in
            let result = state.withLock { state -> Result<Bool, any Error>? in
                if state.isIdle { return .success(false) }
                guard !state.isLost else { return .failure(Self.lost(nil)) }
                guard !state.gone.contains(tag) else { return .failure(Self.left) }
                state.lastWrite = .now
                guard channel.write(bytes) > Self.limit else { return .success(true) }
                state.writers[tag] = continuation
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
    }

    /// Ends the connection when nothing was written for a while and the guest has taken all.
    ///
    /// - Returns: whether it has ended, now or before.
    fileprivate func endIfIdle(for idle: Duration) -> Bool {
        let (isOver, ends) = state.withLock { state in
            if state.isLost { return (true, false) }
            guard state.writers.isEmpty, state.lastWrite + idle <= .now, hasTakenAll else { return (false, false) }
            (state.isIdle, state.isLost) = (true, true)
            return (true, true)
        }
        if ends { channel.close() }
        return isOver
    }

    /// Nothing waits in the socket (unix(7), SIOCOUTQ): what QEMU has read, the guest has been given.
    private var hasTakenAll: Bool {
        var left: Int32 = 0
        return ioctl(descriptor, UInt(TIOCOUTQ), &left) == 0 && left == 0
    }

    fileprivate func giveUp(_ tag: UInt64) {
        let writer = state.withLock { state in
            state.gone.insert(tag)
            return state.writers.removeValue(forKey: tag)
        }
        writer?.resume(throwing: Self.left)
    }

    private static var left: SwiftletError { SwiftletError(.cancelled, "the console was left") }

    fileprivate func close() { channel.close() }

    private static func lost(_ cause: (any Error)?) -> SwiftletError {
        SwiftletError(.unavailable, "the connection to the console was lost", cause: cause)
    }
}

extension ConsoleConnection: ByteChannelOwner {
    package func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {}

    /// QEMU has gone, or has closed the port.
    package func channelReceivedEnd(_ channel: ByteChannel) { channel.close() }

    package func channelDrained(_ channel: ByteChannel) {
        let writers = state.withLock { state in
            defer { state.writers = [:] }
            return state.writers
        }
        for writer in writers.values { writer.resume(returning: true) }
    }

    package func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        let writers = state.withLock { state in
            state.isLost = true
            defer { state.writers = [:] }
            return state.writers
        }
        for writer in writers.values { writer.resume(throwing: Self.lost(error)) }
    }
}
