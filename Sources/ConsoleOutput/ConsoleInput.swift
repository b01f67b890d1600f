import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// The consoles that somebody types at. QEMU serves one client of a serial port: each has one connection, as long as somebody has joined it.
public final class ConsoleInputs: Sendable {
    private struct Shared {
        var users: Int
        var connection: ConsoleConnection
    }

    private static let loop = Result { try EventLoop(name: "consoles") }

    private let shared = Mutex<[String: Shared]>([:])
    private let tags = Atomic<UInt64>(0)

    public init() {}

    /// - Throws: `.unavailable` when the machine does not listen, or another program holds the console.
    public func join(_ socket: String) throws -> ConsoleInput {
        try shared.withLock { shared in
            if shared[socket]?.connection.isLost ?? true {
                let connection = try Self.connect(socket)
                shared[socket] = Shared(users: shared[socket]?.users ?? 0, connection: connection)
            }
            shared[socket]?.users += 1
        }
        return ConsoleInput(self, socket, tag: tags.wrappingAdd(1, ordering: .relaxed).newValue)
    }

    fileprivate func connection(to socket: String) throws -> ConsoleConnection {
        try shared.withLock { shared in
            guard let known = shared[socket] else { throw SwiftletError(.cancelled, "nobody types at the console any more") }
            guard known.connection.isLost else { return known.connection }
            let connection = try Self.connect(socket)
            shared[socket]?.connection = connection
            return connection
        }
    }

    fileprivate func leave(_ socket: String, _ tag: UInt64) {
        let (left, isLast) = shared.withLock { shared -> (ConsoleConnection?, Bool) in
            guard var known = shared[socket] else { return (nil, false) }
            known.users -= 1
            shared[socket] = known.users == 0 ? nil : known
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
        return try ConsoleConnection(descriptor, loop)
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
        guard !hasLeft.load(ordering: .acquiring) else { throw SwiftletError(.cancelled, "the console was left") }
        try await inputs.connection(to: socket).write(bytes, tag)
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
        var writers: [UInt64: CheckedContinuation<Void, any Error>] = [:]
        var gone: Set<UInt64> = []
        var isLost = false
    }

    /// Bytes that may wait for the guest.
    private static let limit = 64 << 10

    private let channel: ByteChannel
    private let state = Mutex(State())

    fileprivate init(_ descriptor: Int32, _ loop: EventLoop) throws {
        channel = ByteChannel(descriptor: descriptor, loop: loop)
        try channel.open(owner: self)
    }

    deinit { channel.close() }

    var isLost: Bool { state.withLock { $0.isLost } }

    fileprivate func write(_ bytes: [UInt8], _ tag: UInt64) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let result = state.withLock { state -> Result<Void, any Error>? in
                guard !state.isLost else { return .failure(Self.lost(nil)) }
                guard !state.gone.contains(tag) else { return .failure(Self.left) }
                guard channel.write(bytes) > Self.limit else { return .success(()) }
                state.writers[tag] = continuation
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
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
        for writer in writers.values { writer.resume() }
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
