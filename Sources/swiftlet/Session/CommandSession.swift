import Dispatch
import Errors
import Glibc
import NIOCore
import StreamClient

/// One exec or attach, joined with this process's standard streams and terminal.
struct CommandSession: Sendable {
    enum End: Equatable, Sendable {
        case exited(Int32)
        case detached
    }

    let hasStdin: Bool
    let hasTerminal: Bool
    let detachKeys: DetachKeys
    /// Signals end this process at once; else they are the caller's.
    var endsBySignals = true

    /// Standard input is a terminal, whose keys go to the command's.
    private var isRaw: Bool { hasStdin && hasTerminal && isatty(STDIN_FILENO) == 1 }

    private struct Detached: Error {}

    /// - Throws: what the session failed with. The terminal is as it was before.
    func run(_ connection: CommandConnection) async throws -> End {
        let streams = try SessionDescriptors()
        // The session ends with the connection, and the terminal's mode comes back at exit. A hang-up that was to be ignored (nohup), is.
        let numbers = endsBySignals ? [SIGINT, SIGTERM, SIGQUIT] + (Self.isIgnored(SIGHUP) ? [] : [SIGHUP]) : []
        let interrupts = Interrupts(numbers) { number, _ in Glibc.exit(128 + number) }
        // Behind the signals' handlers: one that comes in between would leave it raw.
        let terminal = isRaw ? try RawTerminal() : nil
        defer { withExtendedLifetime(interrupts) { terminal?.leave() } }
        do {
            let code = try await connection.run { output, bytes in
                try await streams.write(bytes.readableBytesView, to: output == .stdout ? STDOUT_FILENO : STDERR_FILENO)
            } input: { input in
                try await feed(input, streams)
            }
            return .exited(code)
        } catch is Detached {
            return .detached
        } catch is SessionDescriptors.ReaderGone {
            // As a program ends that SIGPIPE kills: quietly.
            return .exited(128 + SIGPIPE)
        }
    }

    private func feed(_ input: CommandInput, _ streams: SessionDescriptors) async throws {
        let sizes = hasTerminal ? WindowSizes() : nil
        // The size comes first: the command is to have it from its first instruction on.
        if sizes != nil, let size = RawTerminal.size() { try await input.resize(width: size.width, height: size.height) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            if let sizes {
                group.addTask {
                    for await _ in sizes.changes {
                        guard let size = RawTerminal.size() else { continue }
                        try await input.resize(width: size.width, height: size.height)
                    }
                }
            }
            if hasStdin { try await type(input, streams) }
            try await group.waitForAll()
        }
    }

    private func type(_ input: CommandInput, _ streams: SessionDescriptors) async throws {
        var watch = DetachWatch(isRaw ? detachKeys : DetachKeys.none)
        while let bytes = try await streams.read(STDIN_FILENO) {
            let (passed, isDetached) = watch.take(bytes)
            try await input.write(ByteBuffer(bytes: passed))
            if isDetached { throw Detached() }
        }
        try await input.write(ByteBuffer(bytes: watch.end()))
        try await input.end()
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        return sigaction(number, nil, &action) == 0 && action.__sigaction_handler.sa_handler.map { unsafeBitCast($0, to: Int.self) } == 1
    }
}

/// Says when the terminal's size has changed (SIGWINCH); of changes that nobody has looked at, one.
private final class WindowSizes: Sendable {
    let changes: AsyncStream<Void>
    // Dispatch sources may be used from any thread; it is never changed.
    private nonisolated(unsafe) let source: any DispatchSourceSignal

    init() {
        let (changes, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.changes = changes
        signal(SIGWINCH, SIG_IGN)
        source = DispatchSource.makeSignalSource(signal: SIGWINCH, queue: .global())
        source.setEventHandler { continuation.yield() }
        source.resume()
    }

    deinit { source.cancel() }
}
